#include "sfu/transport.h"

#include <gst/app/gstappsink.h>
#include <gst/app/gstappsrc.h>
#include <gst/gst.h>
#include <nice/agent.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <cstring>
#include <mutex>
#include <vector>

#include "util/gref.h"

namespace cfr::sfu {

namespace {

constexpr std::size_t kMaxWaiting = 4096;  // packets between a streaming thread and the context

std::string fingerprint_of(const char* pem, GChecksumType type) {
  const char* begin = pem ? std::strstr(pem, "-----BEGIN CERTIFICATE-----") : nullptr;
  const char* end = begin ? std::strstr(begin, "-----END CERTIFICATE-----") : nullptr;
  if (!end) return "";
  begin += std::strlen("-----BEGIN CERTIFICATE-----");
  std::string base64(begin, end);
  gsize size = 0;
  g_autofree guchar* der = g_base64_decode(base64.c_str(), &size);
  g_autofree char* hex = g_compute_checksum_for_data(type, der, size);
  std::string text;
  for (std::size_t i = 0; hex[i]; ++i) {
    if (i && i % 2 == 0) text += ':';
    text += char(std::toupper(hex[i]));
  }
  return text;
}

Error transport_error(std::string message) {
  Error error;
  error.kind = ErrorKind::server;
  error.message = std::move(message);
  return error;
}

}  // namespace

struct Transport::State : std::enable_shared_from_this<Transport::State> {
  GMainContext* context = nullptr;
  Listener* listener = nullptr;  // of the context's thread; null when closed
  LocalTransport local;
  RemoteTransport remote;
  bool remote_set = false;
  gref<GObject> agent;
  guint stream = 0;
  gref<GstElement> pipeline, encoder, decoder, rtp_out, rtcp_out;
  std::atomic<bool> dead{false};
  std::atomic<bool> keyed{false};  // the encoder has its SRTP keys; before that it must get nothing
  bool connected = false;

  // streaming threads -> context
  struct Packet {
    std::vector<uint8_t> bytes;
    bool rtcp;
    int64_t arrival_us;
  };
  std::mutex mutex;  // guards the next two
  std::vector<Packet> waiting;
  bool scheduled = false;

  ~State() {
    if (pipeline) gst_element_set_state(pipeline.get(), GST_STATE_NULL);
    if (agent && stream) nice_agent_remove_stream(NICE_AGENT(agent.get()), stream);
    g_main_context_unref(context);
  }

  void schedule_locked();
  void drain();
  void queue(GstSample* sample, bool rtcp);
  void check_connected();
  std::string open(const std::string& address);
};

// Runs on the context, while the transport lives.
void Transport::State::schedule_locked() {
  if (std::exchange(scheduled, true)) return;
  GSource* source = g_idle_source_new();
  g_source_set_priority(source, G_PRIORITY_DEFAULT);
  g_source_set_callback(
      source,
      [](gpointer data) -> gboolean {
        if (auto state = static_cast<std::weak_ptr<State>*>(data)->lock()) state->drain();
        return G_SOURCE_REMOVE;
      },
      new std::weak_ptr<State>(weak_from_this()),
      [](gpointer data) { delete static_cast<std::weak_ptr<State>*>(data); });
  g_source_attach(source, context);
  g_source_unref(source);
}

void Transport::State::drain() {
  std::vector<Packet> batch;
  {
    std::lock_guard lock(mutex);
    batch.swap(waiting);
    scheduled = false;
  }
  check_connected();
  for (const Packet& packet : batch)
    if (listener && !dead) listener->on_transport_packet(packet.bytes, packet.rtcp, packet.arrival_us);
}

void Transport::State::queue(GstSample* sample, bool rtcp) {
  GstBuffer* buffer = gst_sample_get_buffer(sample);
  GstMapInfo map;
  if (!buffer || !gst_buffer_map(buffer, &map, GST_MAP_READ)) return;
  {
    std::lock_guard lock(mutex);
    if (waiting.size() < kMaxWaiting && !dead)
      waiting.push_back({{map.data, map.data + map.size}, rtcp, g_get_monotonic_time()});
    schedule_locked();
  }
  gst_buffer_unmap(buffer, &map);
}

void Transport::State::check_connected() {
  if (!listener || !remote_set || dead) return;
  gint connection = 0;  // GstDtlsConnectionState: new, closed, failed, connecting, connected
  g_object_get(encoder.get(), "connection-state", &connection, nullptr);
  if (connection == 4 && keyed && !connected) {
    g_autofree char* pem = nullptr;
    g_object_get(decoder.get(), "peer-pem", &pem, nullptr);
    GChecksumType type = remote.fingerprint_hash == "sha-1"     ? G_CHECKSUM_SHA1
                         : remote.fingerprint_hash == "sha-384" ? G_CHECKSUM_SHA384
                         : remote.fingerprint_hash == "sha-512" ? G_CHECKSUM_SHA512
                                                                : G_CHECKSUM_SHA256;
    // RFC 8122: the certificate must be the one that the description announced.
    if (g_ascii_strcasecmp(fingerprint_of(pem, type).c_str(), remote.fingerprint.c_str()) != 0) {
      dead = true;
      listener->on_transport_closed("the certificate is not the announced one");
      return;
    }
    connected = true;
    listener->on_transport_connected();
  } else if (connected && (connection == 1 || connection == 2)) {
    connected = false;
    listener->on_transport_closed("the client closed DTLS");
  }
}

// A packet may go out again as it was (a NACK answered without RTX), however late. What srtpenc
// refuses otherwise ends the whole stream, not that packet alone.
static void allow_repetition(GstElement* dtlssrtpenc) {
  GstIterator* children =
      gst_bin_iterate_all_by_element_factory_name(GST_BIN(dtlssrtpenc), "srtpenc");
  GstIteratorForeachFunction each = [](const GValue* item, gpointer) {
    g_object_set(g_value_get_object(item), "allow-repeat-tx", TRUE, "replay-window-size", 16384,
                 nullptr);
  };
  gst_iterator_foreach(children, each, nullptr);
  gst_iterator_free(children);
}

// "" or what went wrong.
std::string Transport::State::open(const std::string& address) {
  auto options = NiceAgentOption(NICE_AGENT_OPTION_LITE_MODE | NICE_AGENT_OPTION_REGULAR_NOMINATION);
  agent = gref<GObject>::adopt(
      G_OBJECT(nice_agent_new_full(context, NICE_COMPATIBILITY_RFC5245, options)));
  NiceAgent* nice = NICE_AGENT(agent.get());
  g_object_set(nice, "upnp", FALSE, "ice-tcp", FALSE, "controlling-mode", FALSE, nullptr);
  NiceAddress host;
  nice_address_init(&host);
  if (!nice_address_set_from_string(&host, address.c_str())) return "bad address " + address;
  nice_agent_add_local_address(nice, &host);
  stream = nice_agent_add_stream(nice, 1);
  if (!stream) return "no ICE stream";

  pipeline = gref<GstElement>::sink(gst_pipeline_new(nullptr));
  static std::atomic<unsigned> serial{0};
  std::string id = "transport-" + std::to_string(serial++);
  auto make = [this](const char* factory) {
    GstElement* element = gst_element_factory_make(factory, nullptr);
    if (element) gst_bin_add(GST_BIN(pipeline.get()), element);
    return element;
  };
  GstElement* in = make("nicesrc");
  GstElement* out = make("nicesink");
  GstElement* dec = make("dtlssrtpdec");
  GstElement* enc = make("dtlssrtpenc");
  GstElement* rtp_in = make("appsink");
  GstElement* rtcp_in = make("appsink");
  GstElement* rtp_app = make("appsrc");
  GstElement* rtcp_app = make("appsrc");
  if (!in || !out) return "the nice elements are missing; install gstreamer1.0-nice";
  if (!dec || !enc) return "the dtls elements are missing; install gstreamer1.0-plugins-bad";
  decoder = gref<GstElement>::ref(dec);
  encoder = gref<GstElement>::ref(enc);
  rtp_out = gref<GstElement>::ref(rtp_app);
  rtcp_out = gref<GstElement>::ref(rtcp_app);
  g_object_set(in, "agent", nice, "stream", stream, "component", 1, nullptr);
  g_object_set(out, "agent", nice, "stream", stream, "component", 1, "async", FALSE, "sync", FALSE,
               "enable-last-sample", FALSE, nullptr);
  g_object_set(dec, "connection-id", id.c_str(), nullptr);
  g_object_set(enc, "connection-id", id.c_str(), "is-client", FALSE, nullptr);
  allow_repetition(enc);
  for (GstElement* sink : {rtp_in, rtcp_in})
    g_object_set(sink, "async", FALSE, "sync", FALSE, "enable-last-sample", FALSE, nullptr);
  auto set_source = [](GstElement* source, const char* type) {
    g_autoptr(GstCaps) caps = gst_caps_new_empty_simple(type);
    g_object_set(source, "caps", caps, "is-live", TRUE, "format", GST_FORMAT_TIME, "do-timestamp",
                 TRUE, "max-bytes", guint64(4 << 20), "leaky-type", 2, nullptr);
  };
  set_source(rtp_app, "application/x-rtp");
  set_source(rtcp_app, "application/x-rtcp");
  gst_element_link(in, dec);
  gst_element_link_pads(dec, "rtp_src", rtp_in, "sink");
  gst_element_link_pads(dec, "rtcp_src", rtcp_in, "sink");
  gst_element_link_pads(rtp_app, "src", enc, "rtp_sink_0");
  gst_element_link_pads(rtcp_app, "src", enc, "rtcp_sink_0");
  gst_element_link(enc, out);

  auto watch_samples = [this](GstElement* sink, bool rtcp) {
    struct Target {
      std::weak_ptr<State> state;
      bool rtcp;
    };
    GstAppSinkCallbacks callbacks = {};
    callbacks.new_sample = [](GstAppSink* sink, gpointer data) {
      auto* target = static_cast<Target*>(data);
      GstSample* sample = gst_app_sink_pull_sample(sink);
      if (!sample) return GST_FLOW_EOS;
      if (auto state = target->state.lock()) state->queue(sample, target->rtcp);
      gst_sample_unref(sample);
      return GST_FLOW_OK;
    };
    gst_app_sink_set_callbacks(GST_APP_SINK(sink), &callbacks,
                               new Target{weak_from_this(), rtcp},
                               [](gpointer data) { delete static_cast<Target*>(data); });
  };
  watch_samples(rtp_in, false);
  watch_samples(rtcp_in, true);
  auto on_change = [](GObject*, GParamSpec*, gpointer data) {
    if (auto state = static_cast<std::weak_ptr<State>*>(data)->lock()) {
      std::lock_guard lock(state->mutex);
      state->schedule_locked();
    }
  };
  for (GstElement* element : {enc, dec})
    g_signal_connect_data(element, "notify::connection-state",
                          G_CALLBACK(+on_change), new std::weak_ptr<State>(weak_from_this()),
                          [](gpointer data, GClosure*) {
                            delete static_cast<std::weak_ptr<State>*>(data);
                          },
                          GConnectFlags(0));

  g_signal_connect_data(enc, "on-key-set", G_CALLBACK(+[](GstElement*, gpointer data) {
                          auto state = static_cast<std::weak_ptr<State>*>(data)->lock();
                          if (!state) return;
                          state->keyed = true;
                          std::lock_guard lock(state->mutex);
                          state->schedule_locked();
                        }),
                        new std::weak_ptr<State>(weak_from_this()),
                        [](gpointer data, GClosure*) {
                          delete static_cast<std::weak_ptr<State>*>(data);
                        },
                        GConnectFlags(0));

  // Until ICE has chosen a pair nothing can be sent, and what DTLS says before that would be missed
  // for a second: it waits.
  struct Hold {
    gref<GstPad> pad;
    gulong probe;
  };
  auto* hold = new Hold{gref<GstPad>::adopt(gst_element_get_static_pad(out, "sink")), 0};
  hold->probe = gst_pad_add_probe(
      hold->pad.get(),
      GstPadProbeType(GST_PAD_PROBE_TYPE_BLOCK | GST_PAD_PROBE_TYPE_BUFFER |
                      GST_PAD_PROBE_TYPE_BUFFER_LIST),
      [](GstPad*, GstPadProbeInfo*, gpointer) { return GST_PAD_PROBE_OK; }, nullptr, nullptr);
  g_signal_connect_data(nice, "new-selected-pair-full",
                        G_CALLBACK(+[](NiceAgent*, guint, guint, NiceCandidate*, NiceCandidate*,
                                       Hold* hold) {
                          if (hold->probe)
                            gst_pad_remove_probe(hold->pad.get(), std::exchange(hold->probe, 0));
                        }),
                        hold, [](gpointer data, GClosure*) { delete static_cast<Hold*>(data); },
                        GConnectFlags(0));

  if (!nice_agent_gather_candidates(nice, stream)) return "no ICE candidates";
  g_autofree char* ufrag = nullptr;
  g_autofree char* pwd = nullptr;
  nice_agent_get_local_credentials(nice, stream, &ufrag, &pwd);
  local.ufrag = ufrag;
  local.pwd = pwd;
  GSList* candidates = nice_agent_get_local_candidates(nice, stream, 1);
  for (GSList* item = candidates; item && !local.port; item = item->next) {
    auto* candidate = static_cast<NiceCandidate*>(item->data);
    char text[INET6_ADDRSTRLEN];
    nice_address_to_string(&candidate->addr, text);
    local.address = text;
    local.port = nice_address_get_port(&candidate->addr);
  }
  g_slist_free_full(candidates, reinterpret_cast<GDestroyNotify>(nice_candidate_free));
  g_autofree char* pem = nullptr;
  g_object_get(dec, "pem", &pem, nullptr);
  local.fingerprint = fingerprint_of(pem, G_CHECKSUM_SHA256);
  if (!local.port || local.fingerprint.empty()) return "no local address or certificate";
  return "";
}

Transport::Transport(std::shared_ptr<State> state) : state_(std::move(state)) {}

Result<std::unique_ptr<Transport>> Transport::open(GMainContext* context,
                                                   const std::string& address, Listener& listener) {
  auto state = std::make_shared<State>();
  state->context = g_main_context_ref(context);
  state->listener = &listener;
  std::string problem = state->open(address);
  if (!problem.empty()) return transport_error(problem);
  return std::unique_ptr<Transport>(new Transport(std::move(state)));
}

Transport::~Transport() {
  state_->listener = nullptr;
  state_->dead = true;
}

const LocalTransport& Transport::local() const { return state_->local; }

void Transport::set_remote(const RemoteTransport& remote) {
  State& s = *state_;
  if (s.remote_set) return;
  s.remote_set = true;
  s.remote = remote;
  std::transform(s.remote.fingerprint_hash.begin(), s.remote.fingerprint_hash.end(),
                 s.remote.fingerprint_hash.begin(), [](unsigned char c) { return std::tolower(c); });
  nice_agent_set_remote_credentials(NICE_AGENT(s.agent.get()), s.stream, remote.ufrag.c_str(),
                                    remote.pwd.c_str());
  g_object_set(s.encoder.get(), "is-client", remote.client_is_passive, nullptr);
  gst_element_set_state(s.pipeline.get(), GST_STATE_PLAYING);
}

void Transport::send(Bytes packet, bool rtcp) {
  State& s = *state_;
  if (s.dead || !s.connected) return;
  GstBuffer* buffer = gst_buffer_new_memdup(packet.data(), packet.size());
  gst_app_src_push_buffer(GST_APP_SRC(rtcp ? s.rtcp_out.get() : s.rtp_out.get()), buffer);
}

void Transport::kill() { state_->dead = true; }

}  // namespace cfr::sfu
