#include "sfu/transport.h"

#include <gio/gio.h>
#include <gst/gst.h>
#include <nice/agent.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cctype>
#include <cstring>
#include <deque>
#include <mutex>
#include <optional>
#include <unordered_set>
#include <vector>

#include "util/dtls_end.h"
#include "util/gref.h"

namespace cfr::sfu {

namespace {

constexpr std::size_t kMaxHeld = 64;  // DTLS messages that wait for ICE
constexpr std::size_t kMaxSsrcs = 512;
constexpr std::size_t kRandom = 32;  // bytes of a ClientHello's random
constexpr int kReceiveBuffer = 2 << 20, kSendBuffer = 1 << 20;
constexpr int64_t kHeardInterval = 250 * 1000;
constexpr int64_t kReplaceWait = 5000 * 1000;  // for ICE and DTLS to begin anew
// GstDtlsConnectionState, which has no public header
enum DtlsState { kDtlsClosed = 1, kDtlsFailed = 2, kDtlsConnected = 4 };

std::string fingerprint_of(const char* pem, GChecksumType type) {
  static constexpr char kBegin[] = "-----BEGIN CERTIFICATE-----";
  const char* begin = pem ? std::strstr(pem, kBegin) : nullptr;
  const char* end = begin ? std::strstr(begin, "-----END CERTIFICATE-----") : nullptr;
  if (!end) return "";
  std::string base64(begin + std::strlen(kBegin), end);
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

std::optional<GChecksumType> checksum_of(const std::string& name) {
  auto is = [&](const char* other) { return g_ascii_strcasecmp(name.c_str(), other) == 0; };
  if (is("sha-1")) return G_CHECKSUM_SHA1;
  if (is("sha-256")) return G_CHECKSUM_SHA256;
  if (is("sha-384")) return G_CHECKSUM_SHA384;
  if (is("sha-512")) return G_CHECKSUM_SHA512;
  return std::nullopt;
}

Error transport_error(std::string message) {
  Error error;
  error.kind = ErrorKind::server;
  error.message = std::move(message);
  return error;
}

// A pad of ours at the edge of the DTLS elements.
gref<GstPad> make_pad(const char* name, GstPadDirection direction, gpointer data,
                      GstPadChainFunction chain) {
  auto pad = gref<GstPad>::sink(gst_pad_new(name, direction));
  gst_pad_set_element_private(pad.get(), data);
  if (chain) gst_pad_set_chain_function(pad.get(), chain);
  gst_pad_set_event_function(pad.get(), [](GstPad*, GstObject*, GstEvent* event) -> gboolean {
    gst_event_unref(event);
    return TRUE;
  });
  gst_pad_set_query_function(pad.get(), [](GstPad*, GstObject*, GstQuery* query) -> gboolean {
    if (GST_QUERY_TYPE(query) == GST_QUERY_ACCEPT_CAPS) {
      gst_query_set_accept_caps_result(query, TRUE);
      return TRUE;
    }
    if (GST_QUERY_TYPE(query) != GST_QUERY_CAPS) return FALSE;
    g_autoptr(GstCaps) any = gst_caps_new_any();
    GstCaps* filter = nullptr;
    gst_query_parse_caps(query, &filter);
    gst_query_set_caps_result(query, filter ? filter : any);
    return TRUE;
  });
  gst_pad_set_active(pad.get(), TRUE);
  return pad;
}

void begin_stream(const gref<GstPad>& pad, const char* type) {
  gst_pad_push_event(pad.get(), gst_event_new_stream_start(GST_PAD_NAME(pad.get())));
  if (type) {
    g_autoptr(GstCaps) caps = gst_caps_new_empty_simple(type);
    gst_pad_push_event(pad.get(), gst_event_new_caps(caps));
  }
  GstSegment segment;
  gst_segment_init(&segment, GST_FORMAT_TIME);
  gst_pad_push_event(pad.get(), gst_event_new_segment(&segment));
}

void set_on_inner(GstElement* bin, const char* factory, const char* first, gint64 value) {
  GstIterator* found = gst_bin_iterate_all_by_element_factory_name(GST_BIN(bin), factory);
  GValue item = G_VALUE_INIT;
  if (gst_iterator_next(found, &item) == GST_ITERATOR_OK) {
    gst_util_set_object_arg(G_OBJECT(g_value_get_object(&item)), first,
                            std::to_string(value).c_str());
    g_value_unset(&item);
  }
  gst_iterator_free(found);
}

// The random of a ClientHello in the clear, which says which handshake it begins; null for all else
// (RFC 6347, sections 4.1 and 4.2.2).
const uint8_t* hello_random(const uint8_t* data, std::size_t size) {
  constexpr std::size_t kRecord = 13, kHandshake = 12, kVersion = 2;
  if (size < kRecord + kHandshake + kVersion + kRandom) return nullptr;
  const uint8_t* message = data + kRecord;
  bool in_the_clear = !data[3] && !data[4];                // epoch 0
  bool first = !message[6] && !message[7] && !message[8];  // fragment_offset
  if (data[0] != 22 || !in_the_clear || message[0] != 1 || !first) return nullptr;
  return message + kHandshake + kVersion;
}

// By which srtpdec knows the stream of a packet; null for what it could not decrypt.
std::optional<uint32_t> ssrc_of(Bytes packet) {
  if (packet.size() < 12 || packet[0] >> 6 != 2) return std::nullopt;
  const int type = packet[1] & 0x7f;
  if (type >= 64 && type <= 80) {  // RTCP, encrypted from the ninth byte on
    if (packet[1] < 200 || packet[1] > 206 || packet[1] == 202) return std::nullopt;
    return read32(&packet[4]);
  }
  std::size_t header = 12 + (packet[0] & 0x0f) * 4;
  const bool extended = packet[0] & 0x10;
  if (extended && header + 4 <= packet.size()) header += read16(&packet[header + 2]) * 4;
  if (header + (extended ? 4 : 0) > packet.size()) return std::nullopt;
  return read32(&packet[8]);
}

void drop_source(GSource*& source) {
  if (!source) return;
  g_source_destroy(source);
  g_source_unref(source);
  source = nullptr;
}

}  // namespace

struct Transport::State : std::enable_shared_from_this<Transport::State> {
  GMainContext* context = nullptr;
  Listener* listener = nullptr;  // null when closed
  LocalTransport local;
  std::optional<RemoteTransport> remote;
  bool verified = false;  // DTLS stands, and with the right client
  bool ended = false;     // for good
  bool silent = false;
  int64_t replaced_until_us = 0;         // a close before then may be followed by another handshake
  bool closed = false;                   // and that handshake is waited for
  NiceAddress hello_from;                // of the last ClientHello, while one may come anew
  std::array<uint8_t, kRandom> hello{};  // random of the handshake that was begun last
  std::atomic<bool> blocked{false};
  int depth = 0;  // callbacks of ours on the stack
  int64_t last_heard_us = 0, told_heard_us = 0, silence_us = kSilence_us;

  gref<GObject> agent;
  guint stream = 0;
  gref<GObject> socket;
  GSource* watch = nullptr;
  GSource* timer = nullptr;

  gref<GstElement> bin, encoder, decoder;
  gref<GstPad> from_network, to_network;  // at the DTLS elements
  gref<GstPad> rtp_in, rtcp_in, rtp_out, rtcp_out;
  std::unordered_set<uint32_t> ssrcs;  // that the decoder has been shown

  std::mutex mutex;  // guards the next two
  bool pair_selected = false;
  std::deque<std::vector<uint8_t>> held;

  ~State();
  std::string open(const std::string& address);
  std::string open_dtls(bool client);
  void close_dtls();
  void close();

  void received(const uint8_t* data, std::size_t size);
  bool admits(Bytes packet);
  void renew_dtls();
  void look_at_sender();
  void follow_client();
  void decrypted(GstBuffer* buffer, bool rtcp);
  void encrypted(GstBuffer* buffer);
  void chosen_pair();
  void heard();
  void second_passed();
  void check_dtls();
  bool live() const { return listener && verified && !ended; }
};

namespace {

// Keeps the State over calls of the listener, who may destroy the Transport.
template <class S>
class Visit {
 public:
  explicit Visit(S* state) : state_(state->shared_from_this()) { ++state_->depth; }
  ~Visit() {
    if (--state_->depth == 0 && state_.use_count() == 1) {
      // The last reference must not go while libnice or GStreamer are calling us.
      GSource* source = g_idle_source_new();
      g_source_set_priority(source, G_PRIORITY_DEFAULT);
      GMainContext* context = state_->context;
      g_source_set_callback(
          source, [](gpointer) -> gboolean { return G_SOURCE_REMOVE; },
          new std::shared_ptr<S>(std::move(state_)),
          [](gpointer data) { delete static_cast<std::shared_ptr<S>*>(data); });
      g_source_attach(source, context);
      g_source_unref(source);
    }
  }
  Visit(const Visit&) = delete;
  Visit& operator=(const Visit&) = delete;

 private:
  std::shared_ptr<S> state_;
};

}  // namespace

// --- life ------------------------------------------------------------------------------------

Transport::State::~State() {
  close();
  g_main_context_unref(context);
}

void Transport::State::close() {
  drop_source(watch);
  drop_source(timer);
  if (agent) {
    NiceAgent* nice = NICE_AGENT(agent.get());
    g_signal_handlers_disconnect_by_data(nice, this);
    if (stream) {
      nice_agent_attach_recv(nice, stream, 1, context, nullptr, nullptr);
      nice_agent_remove_stream(nice, stream);
    }
  }
  close_dtls();
  socket.reset();
  agent.reset();
}

// "" or what went wrong.
std::string Transport::State::open(const std::string& address) {
  nice_address_init(&hello_from);
  auto options =
      NiceAgentOption(NICE_AGENT_OPTION_LITE_MODE | NICE_AGENT_OPTION_REGULAR_NOMINATION);
  agent = gref<GObject>::adopt(
      G_OBJECT(nice_agent_new_full(context, NICE_COMPATIBILITY_RFC5245, options)));
  NiceAgent* nice = NICE_AGENT(agent.get());
  // libnice checks back even in lite mode, at this pace; until that is done it sends nothing.
  g_object_set(nice, "upnp", FALSE, "ice-tcp", FALSE, "controlling-mode", FALSE,
               "stun-pacing-timer", 2, nullptr);
  if (address != "0.0.0.0" && address != "::") {
    NiceAddress host;
    nice_address_init(&host);
    if (!nice_address_set_from_string(&host, address.c_str())) return "bad address " + address;
    nice_agent_add_local_address(nice, &host);
  }
  stream = nice_agent_add_stream(nice, 1);
  if (!stream) return "no ICE stream";
  g_signal_connect(nice, "new-selected-pair-full",
                   G_CALLBACK(+[](NiceAgent*, guint, guint, NiceCandidate*, NiceCandidate*,
                                  State* state) { state->chosen_pair(); }),
                   this);
  if (!nice_agent_gather_candidates(nice, stream)) return "no ICE candidates";

  GPtrArray* sockets = nice_agent_get_sockets(nice, stream, 1);
  if (sockets && sockets->len > 0) socket = gref<GObject>::ref(G_OBJECT(sockets->pdata[0]));
  if (sockets) g_ptr_array_unref(sockets);
  if (!socket) return "no socket";
  // Key frames come in bursts, and one thread serves all.
  g_socket_set_option(G_SOCKET(socket.get()), SOL_SOCKET, SO_RCVBUF, kReceiveBuffer, nullptr);
  g_socket_set_option(G_SOCKET(socket.get()), SOL_SOCKET, SO_SNDBUF, kSendBuffer, nullptr);

  std::string problem = open_dtls(false);
  if (!problem.empty()) return problem;

  // Sees the socket before libnice does (sources of one priority are served in the order in which
  // they were attached): the only way to learn of STUN, and to keep it away.
  watch = g_socket_create_source(G_SOCKET(socket.get()), G_IO_IN, nullptr);
  GSocketSourceFunc readable = [](GSocket*, GIOCondition, gpointer data) -> gboolean {
    static_cast<State*>(data)->heard();
    return G_SOURCE_CONTINUE;
  };
  g_source_set_callback(watch, G_SOURCE_FUNC(readable), this, nullptr);
  g_source_attach(watch, context);
  timer = g_timeout_source_new(500);
  g_source_set_callback(
      timer,
      [](gpointer data) -> gboolean {
        static_cast<State*>(data)->second_passed();
        return G_SOURCE_CONTINUE;
      },
      this, nullptr);
  g_source_attach(timer, context);
  nice_agent_attach_recv(
      nice, stream, 1, context,
      [](NiceAgent*, guint, guint, guint size, gchar* data, gpointer state) {
        static_cast<State*>(state)->received(reinterpret_cast<uint8_t*>(data), size);
      },
      this);

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
  g_object_get(decoder.get(), "pem", &pem, nullptr);
  local.fingerprint = fingerprint_of(pem, G_CHECKSUM_SHA256);
  if (!local.port || local.fingerprint.empty()) return "no local address or certificate";
  return "";
}

std::string Transport::State::open_dtls(bool client) {
  static std::atomic<unsigned> serial{0};
  std::string id = "cfr-sfu-" + std::to_string(serial++);
  GstElement* dec = gst_element_factory_make("dtlssrtpdec", nullptr);
  GstElement* enc = gst_element_factory_make("dtlssrtpenc", nullptr);
  ssrcs.clear();
  bin = gref<GstElement>::sink(gst_bin_new(nullptr));
  if (dec) gst_bin_add(GST_BIN(bin.get()), dec);
  if (enc) gst_bin_add(GST_BIN(bin.get()), enc);
  if (!dec || !enc) return "the dtls elements are missing; install gstreamer1.0-plugins-bad";
  decoder = gref<GstElement>::ref(dec);
  encoder = gref<GstElement>::ref(enc);
  g_object_set(dec, "connection-id", id.c_str(), nullptr);
  g_object_set(enc, "connection-id", id.c_str(), "is-client", client, nullptr);
  // A packet may go out again as it was (a NACK answered without RTX), and repaired ones come late.
  set_on_inner(enc, "srtpenc", "allow-repeat-tx", TRUE);
  set_on_inner(enc, "srtpenc", "replay-window-size", 4096);
  set_on_inner(dec, "srtpdec", "replay-window-size", 4096);

  from_network = make_pad("from_network", GST_PAD_SRC, this, nullptr);
  rtp_out = make_pad("rtp_out", GST_PAD_SRC, this, nullptr);
  rtcp_out = make_pad("rtcp_out", GST_PAD_SRC, this, nullptr);
  to_network =
      make_pad("to_network", GST_PAD_SINK, this, [](GstPad* pad, GstObject*, GstBuffer* buffer) {
        static_cast<State*>(gst_pad_get_element_private(pad))->encrypted(buffer);
        return GST_FLOW_OK;
      });
  rtp_in = make_pad("rtp_in", GST_PAD_SINK, this, [](GstPad* pad, GstObject*, GstBuffer* buffer) {
    static_cast<State*>(gst_pad_get_element_private(pad))->decrypted(buffer, false);
    return GST_FLOW_OK;
  });
  rtcp_in = make_pad("rtcp_in", GST_PAD_SINK, this, [](GstPad* pad, GstObject*, GstBuffer* buffer) {
    static_cast<State*>(gst_pad_get_element_private(pad))->decrypted(buffer, true);
    return GST_FLOW_OK;
  });
  bool linked = true;
  auto link = [&](const gref<GstPad>& ours, GstElement* element, const char* name, bool request) {
    auto theirs = gref<GstPad>::adopt(request ? gst_element_request_pad_simple(element, name)
                                              : gst_element_get_static_pad(element, name));
    GstPad* source = GST_PAD_IS_SRC(ours.get()) ? ours.get() : theirs.get();
    GstPad* sink = GST_PAD_IS_SRC(ours.get()) ? theirs.get() : ours.get();
    linked = linked && theirs && gst_pad_link(source, sink) == GST_PAD_LINK_OK;
  };
  link(from_network, dec, "sink", false);
  link(rtp_in, dec, "rtp_src", false);
  link(rtcp_in, dec, "rtcp_src", false);
  link(rtp_out, enc, "rtp_sink_0", true);
  link(rtcp_out, enc, "rtcp_sink_0", true);
  link(to_network, enc, "src", false);
  if (!linked) return "the dtls elements do not link";
  if (gst_element_set_state(bin.get(), GST_STATE_PLAYING) == GST_STATE_CHANGE_FAILURE)
    return "the dtls elements do not start";
  begin_stream(from_network, nullptr);
  begin_stream(rtp_out, "application/x-rtp");
  begin_stream(rtcp_out, "application/x-rtcp");
  return "";
}

void Transport::State::close_dtls() {
  // Ends the thread of dtlsenc; after that nobody calls the pads.
  if (bin) {
    gst_element_set_state(bin.get(), GST_STATE_NULL);
    forget_dtls_connections(bin.get());
  }
  for (gref<GstPad>* pad : {&from_network, &to_network, &rtp_in, &rtcp_in, &rtp_out, &rtcp_out}) {
    if (!*pad) continue;
    gst_pad_set_active(pad->get(), FALSE);
    if (auto peer = gref<GstPad>::adopt(gst_pad_get_peer(pad->get()))) {
      if (GST_PAD_IS_SRC(pad->get()))
        gst_pad_unlink(pad->get(), peer.get());
      else
        gst_pad_unlink(peer.get(), pad->get());
    }
    pad->reset();
  }
  encoder.reset();
  decoder.reset();
  bin.reset();
}

// --- packets ---------------------------------------------------------------------------------

void Transport::State::received(const uint8_t* data, std::size_t size) {
  if (size == 0 || ended || !listener || blocked) return;
  Visit visit(this);
  const bool dtls = data[0] >= 20 && data[0] <= 63;  // RFC 7983
  if (const uint8_t* random = dtls ? hello_random(data, size) : nullptr) {
    bool another = !std::equal(hello.begin(), hello.end(), random);
    std::copy_n(random, kRandom, hello.begin());
    if (another && (verified || closed) && !remote->client_is_passive) renew_dtls();
    if (ended) return;
    if (g_get_monotonic_time() < replaced_until_us) follow_client();
  }
  if (!dtls && !verified) {
    check_dtls();
    if (!verified) return;
  }
  if (!dtls && !admits({data, size})) return;
  // What the elements make of garbage concerns that packet alone.
  gst_pad_push(from_network.get(), gst_buffer_new_memdup(data, size));
  if (dtls) check_dtls();
}

// The decoder makes a stream for each SSRC, before it knows whether the client has sent the packet,
// and keeps it.
bool Transport::State::admits(Bytes packet) {
  auto ssrc = ssrc_of(packet);
  return ssrc && (ssrcs.count(*ssrc) || (ssrcs.size() < kMaxSsrcs && ssrcs.insert(*ssrc).second));
}

// RFC 6347, section 4.2.8: a client may begin anew, without ending what was. ICE has checked where
// it comes from.
void Transport::State::renew_dtls() {
  verified = closed = false;
  close_dtls();
  std::string problem = open_dtls(false);
  if (problem.empty()) return;
  ended = true;
  listener->on_transport_closed(problem);
}

// libnice does not say where data comes from.
void Transport::State::look_at_sender() {
  uint8_t bytes[128];
  sockaddr_storage from;
  socklen_t size = sizeof from;
  auto* address = reinterpret_cast<sockaddr*>(&from);
  ssize_t length = recvfrom(g_socket_get_fd(G_SOCKET(socket.get())), bytes, sizeof bytes,
                            MSG_PEEK | MSG_DONTWAIT, address, &size);
  if (length > 0 && hello_random(bytes, std::size_t(length)))
    nice_address_set_from_sockaddr(&hello_from, address);
}

// libnice stays with a pair of candidates until a better one is chosen, and that of the client's
// new connection is merely as good. The client begins DTLS on the one that it has chosen.
void Transport::State::follow_client() {
  NiceAgent* nice = NICE_AGENT(agent.get());
  GSList* candidates = nice_agent_get_remote_candidates(nice, stream, 1);
  for (GSList* item = candidates; item; item = item->next) {
    auto* candidate = static_cast<NiceCandidate*>(item->data);
    if (!nice_address_equal(&candidate->addr, &hello_from)) continue;
    nice_agent_set_selected_remote_candidate(nice, stream, 1, candidate);
    break;
  }
  g_slist_free_full(candidates, reinterpret_cast<GDestroyNotify>(nice_candidate_free));
}

void Transport::State::decrypted(GstBuffer* buffer, bool rtcp) {
  GstMapInfo map;
  if (live() && gst_buffer_map(buffer, &map, GST_MAP_READ)) {
    listener->on_transport_packet({map.data, map.size}, rtcp, g_get_monotonic_time());
    gst_buffer_unmap(buffer, &map);
  }
  gst_buffer_unref(buffer);
}

// Any thread.
void Transport::State::encrypted(GstBuffer* buffer) {
  GstMapInfo map;
  if (!blocked && gst_buffer_map(buffer, &map, GST_MAP_READ)) {
    bool send = true;
    {
      std::lock_guard lock(mutex);
      if (!pair_selected) {  // what DTLS says now would be missed for a second
        if (held.size() < kMaxHeld) held.emplace_back(map.data, map.data + map.size);
        send = false;
      }
    }
    if (send)
      nice_agent_send(NICE_AGENT(agent.get()), stream, 1, guint(map.size),
                      reinterpret_cast<char*>(map.data));
    gst_buffer_unmap(buffer, &map);
  }
  gst_buffer_unref(buffer);
}

void Transport::State::chosen_pair() {
  std::deque<std::vector<uint8_t>> now;
  {
    std::lock_guard lock(mutex);
    pair_selected = true;
    now.swap(held);
  }
  for (const auto& packet : now)
    nice_agent_send(NICE_AGENT(agent.get()), stream, 1, guint(packet.size()),
                    reinterpret_cast<const char*>(packet.data()));
}

void Transport::State::heard() {
  if (blocked) {
    char bytes[2048];
    while (g_socket_receive_with_blocking(G_SOCKET(socket.get()), bytes, sizeof bytes, FALSE,
                                          nullptr, nullptr) >= 0) {
    }
    return;
  }
  last_heard_us = g_get_monotonic_time();
  if (last_heard_us < replaced_until_us) look_at_sender();
  if (!live() || (last_heard_us - told_heard_us < kHeardInterval && !silent)) return;
  Visit visit(this);
  told_heard_us = last_heard_us;
  if (std::exchange(silent, false)) listener->on_transport_connected();
  if (live()) listener->on_transport_heard(last_heard_us);
}

// --- states ----------------------------------------------------------------------------------

void Transport::State::second_passed() {
  if (closed && !ended && listener && g_get_monotonic_time() > replaced_until_us) {
    Visit visit(this);
    ended = true;
    listener->on_transport_closed("the client closed DTLS");
    return;
  }
  if (!live() || silent || g_get_monotonic_time() - last_heard_us < silence_us) return;
  Visit visit(this);
  silent = true;
  listener->on_transport_closed("the client has fallen silent");
}

void Transport::State::check_dtls() {
  if (!listener || !remote || ended) return;
  gint dtls = 0;
  g_object_get(encoder.get(), "connection-state", &dtls, nullptr);
  Visit visit(this);
  if (dtls == kDtlsConnected && !verified) {
    // RFC 8122: the certificate must be the one that the description announced.
    g_autofree char* pem = nullptr;
    g_object_get(decoder.get(), "peer-pem", &pem, nullptr);
    auto type = checksum_of(remote->fingerprint_hash);
    std::string found = type ? fingerprint_of(pem, *type) : "";
    if (found.empty() || g_ascii_strcasecmp(found.c_str(), remote->fingerprint.c_str()) != 0) {
      ended = true;
      listener->on_transport_closed("the client's certificate is not the announced one");
      return;
    }
    verified = true;
    last_heard_us = g_get_monotonic_time();
    listener->on_transport_connected();
  } else if (dtls == kDtlsClosed && verified && g_get_monotonic_time() < replaced_until_us) {
    verified = false;
    closed = true;
  } else if (dtls == kDtlsClosed && verified) {
    ended = true;
    listener->on_transport_closed("the client closed DTLS");
  } else if (dtls == kDtlsFailed) {
    ended = true;
    listener->on_transport_closed("DTLS failed");
  }
}

// --- the face --------------------------------------------------------------------------------

Transport::Transport(std::shared_ptr<State> state) : state_(std::move(state)) {}

void Transport::prepare() {
  auto decoder = gref<GstElement>::sink(gst_element_factory_make("dtlssrtpdec", nullptr));
  g_autofree char* pem = nullptr;
  if (decoder) g_object_get(decoder.get(), "pem", &pem, nullptr);
}

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
  state_->ended = true;
}

const LocalTransport& Transport::local() const {
  return state_->local;
}

void Transport::set_remote(const RemoteTransport& remote) {
  State& s = *state_;
  if (s.remote || s.ended) return;
  Visit visit(&s);
  s.remote = remote;
  if (remote.client_is_passive) {
    // The elements take their role when they start.
    s.close_dtls();
    std::string problem = s.open_dtls(true);
    if (!problem.empty()) {
      s.ended = true;
      return s.listener->on_transport_closed(problem);
    }
  }
  nice_agent_set_remote_credentials(NICE_AGENT(s.agent.get()), s.stream, remote.ufrag.c_str(),
                                    remote.pwd.c_str());
  s.check_dtls();
}

void Transport::expect_another() {
  state_->replaced_until_us = g_get_monotonic_time() + kReplaceWait;
}

void Transport::send(Bytes packet, bool rtcp) {
  State& s = *state_;
  if (!s.live() || s.blocked || packet.empty()) return;
  gst_pad_push(rtcp ? s.rtcp_out.get() : s.rtp_out.get(),
               gst_buffer_new_memdup(packet.data(), packet.size()));
}

void Transport::set_blocked(bool blocked) {
  state_->blocked = blocked;
}

void Transport::kill() {
  state_->blocked = true;
  state_->ended = true;
}

void Transport::set_silence_us(int64_t silence_us) {
  state_->silence_us = silence_us;
}

}  // namespace cfr::sfu
