// Peer's transport side: settings of webrtcbin and its ICE agent, connection state, statistics.
#include <gst/gst.h>

#include <mutex>
#include <string_view>
#include <utility>
#include <vector>

#include "rtc/peer_state.h"

#define GST_CAT_DEFAULT peer_debug()

namespace cfr {

namespace {

using Link = Peer::State::Link;

// The SFU keeps a silent session for 30 s.
constexpr guint kMaxMisorderMs = 30000;

void on_ice_candidate(GstElement*, guint, gchar* candidate, gpointer data) {
  static_cast<Link*>(data)->post(
      [text = std::string(candidate)](Peer::State& self) { self.on_candidate(text); });
}

void on_gathering(GstElement*, GParamSpec*, gpointer data) {
  static_cast<Link*>(data)->post([](Peer::State& self) { self.check_gathering(); });
}

void on_state(GObject*, GParamSpec*, gpointer data) {
  static_cast<Link*>(data)->post([](Peer::State& self) { self.check_connection(); });
}

// With its lock held. The property's effect is read when the answer or the jitter buffer is made.
void on_new_transceiver(GstElement*, GstWebRTCRTPTransceiver* transceiver, gpointer) {
  GstWebRTCKind kind;
  g_object_get(transceiver, "kind", &kind, nullptr);
  if (kind == GST_WEBRTC_KIND_VIDEO) g_object_set(transceiver, "do-nack", TRUE, nullptr);
}

struct Null {};

// webrtcbin and its ICE library log the URI of a TURN server, password and all, while they take it.
// For that moment their log is off, for the whole process: categories know no smaller unit.
bool add_turn_server(GstElement* bin, const std::string& uri) {
  static std::mutex one_at_a_time;
  const std::lock_guard lock(one_at_a_time);
  std::vector<std::pair<GstDebugCategory*, GstDebugLevel>> quiet;
  GSList* all = gst_debug_get_all_categories();
  for (GSList* item = all; item; item = item->next) {
    auto* category = static_cast<GstDebugCategory*>(item->data);
    const std::string_view name = gst_debug_category_get_name(category);
    if (name != "webrtcbin" && name != "webrtcnice") continue;
    quiet.emplace_back(category, gst_debug_category_get_threshold(category));
    gst_debug_category_set_threshold(category, GST_LEVEL_NONE);
  }
  g_slist_free(all);
  gboolean added = FALSE;
  g_signal_emit_by_name(bin, "add-turn-server", uri.c_str(), &added);
  for (auto [category, level] : quiet) gst_debug_category_set_threshold(category, level);
  return added;
}

}  // namespace

void Peer::State::configure() {
  GstElement* bin = webrtcbin_.get();
  g_object_set(bin, "bundle-policy", GST_WEBRTC_BUNDLE_POLICY_MAX_BUNDLE, "latency",
               settings_.latency_ms, "ice-transport-policy",
               settings_.relay_only ? GST_WEBRTC_ICE_TRANSPORT_POLICY_RELAY
                                    : GST_WEBRTC_ICE_TRANSPORT_POLICY_ALL,
               nullptr);
  if (!settings_.stun_server.empty())
    g_object_set(bin, "stun-server", settings_.stun_server.c_str(), nullptr);
  for (const std::string& server : settings_.turn_servers) {
    if (!add_turn_server(bin, server))
      GST_WARNING_OBJECT(bin, "a TURN server was refused; is its URI well-formed?");
  }

  const gref<GObject> ice = object_property(bin, "ice-agent");
  if (ice) {
    const gref<GObject> agent = object_property(ice.get(), "agent");
    // UPnP costs 200 ms and multicasts into the user's network. Pacing at 20 ms makes connecting
    // three times slower. Checks are first repeated after 100 ms and given up after 4 s; fewer
    // repetitions would end them within the round-trip time of a slow path. (STUN and TURN requests
    // keep the same times, but nothing waits for them.) ice-tcp is about TCP host candidates; TURN
    // over TCP does not depend on it.
    g_object_set(agent.get(), "upnp", FALSE, "ice-tcp", FALSE, "stun-pacing-timer", 5u,
                 "stun-initial-timeout", 100u, "stun-max-retransmissions", 6u, nullptr);
    if (settings_.loopback) {
      // libnice leaves loopback out by itself, and uses nothing else once told of an address
      gboolean added = FALSE;
      g_signal_emit_by_name(ice.get(), "add-local-ip-address", "127.0.0.1", &added);
    }
  }

  GstElement* rtpbin = gst_bin_get_by_name(GST_BIN(bin), "rtpbin");
  rtpbin_ = gref<GstElement>::adopt(rtpbin);
  if (rtpbin) {
    // The default cname is user@host.
    GstStructure* sdes = gst_structure_new("application/x-rtp-source-sdes", "cname", G_TYPE_STRING,
                                           token_.c_str(), nullptr);
    // After an outage an SFU passes on what the publisher has sent again meanwhile, under the old
    // numbers. With the default of 2 s the jitter buffer takes five of them in a row for a restart
    // of the stream and shows old pictures; within this time they are merely late.
    g_object_set(rtpbin, "sdes", sdes, "max-misorder-time", kMaxMisorderMs, nullptr);
    gst_structure_free(sdes);
  }
}

void Peer::State::watch_connection() {
  auto* bin = G_OBJECT(webrtcbin_.get());
  connect(bin, "on-new-transceiver", G_CALLBACK(on_new_transceiver), Null());
  connect(bin, "on-ice-candidate", G_CALLBACK(on_ice_candidate), link());
  connect(bin, "notify::ice-gathering-state", G_CALLBACK(on_gathering), link());
  connect(bin, "notify::connection-state", G_CALLBACK(on_state), link());
  connect(bin, "notify::ice-connection-state", G_CALLBACK(on_state), link());
}

void Peer::State::check_gathering() {
  if (!gathered_) {
    GstWebRTCICEGatheringState state;
    g_object_get(webrtcbin_.get(), "ice-gathering-state", &state, nullptr);
    gathered_ = state == GST_WEBRTC_ICE_GATHERING_STATE_COMPLETE;
  }
  if (gathered_ && waiting_for_candidates_) finish_soon();
}

// webrtcbin's connection-state waits for sections that are not yet negotiated; the one transport of
// the bundle tells the truth.
void Peer::State::find_transport() {
  if (dtls_) return;
  GstWebRTCRTPTransceiver* first = nullptr;
  g_signal_emit_by_name(webrtcbin_.get(), "get-transceiver", 0, &first);
  if (!first) return;
  for (const char* side : {"sender", "receiver"}) {
    const gref<GObject> end = object_property(first, side);
    if (end && !dtls_) dtls_ = object_property(end.get(), "transport");
  }
  gst_object_unref(first);
  if (!dtls_) return;
  ice_ = object_property(dtls_.get(), "transport");
  connect(dtls_.get(), "notify::state", G_CALLBACK(on_state), link());
  if (ice_) connect(ice_.get(), "notify::state", G_CALLBACK(on_state), link());
}

void Peer::State::check_connection() {
  find_transport();
  if (!dtls_ || !ice_ || connection_ == PeerConnection::failed) return;
  GstWebRTCDTLSTransportState dtls;
  GstWebRTCICEConnectionState ice;
  g_object_get(dtls_.get(), "state", &dtls, nullptr);
  g_object_get(ice_.get(), "state", &ice, nullptr);
  // ICE goes from checking to completed; it may never show connected.
  const bool ice_up = ice == GST_WEBRTC_ICE_CONNECTION_STATE_CONNECTED ||
                      ice == GST_WEBRTC_ICE_CONNECTION_STATE_COMPLETED;
  const bool was_up = connection_ == PeerConnection::connected;
  PeerConnection now = connection_;
  if (dtls == GST_WEBRTC_DTLS_TRANSPORT_STATE_FAILED ||
      ice == GST_WEBRTC_ICE_CONNECTION_STATE_FAILED ||
      (was_up && dtls == GST_WEBRTC_DTLS_TRANSPORT_STATE_CLOSED)) {
    now = PeerConnection::failed;
  } else if (!was_up && ice_up && dtls == GST_WEBRTC_DTLS_TRANSPORT_STATE_CONNECTED) {
    // RFC 8827 6.5: the certificate must be the one of the SDP; webrtcbin does not look.
    g_autofree gchar* pem = nullptr;
    g_object_get(dtls_.get(), "remote-certificate", &pem, nullptr);
    now = pem && dialog_.is_remote_certificate(pem) ? PeerConnection::connected
                                                    : PeerConnection::failed;
    if (now == PeerConnection::failed)
      GST_WARNING_OBJECT(webrtcbin_.get(), "the SFU's certificate is not the one it announced");
  }
  if (now == connection_) return;
  connection_ = now;
  listener_.on_peer_connection(now);
}

// webrtcbin 1.22 tells the protocol of no relay ("none"); if all servers have the same, it is
// clear.
static std::string relay_protocol(const std::vector<std::string>& servers) {
  std::string protocol;
  for (const std::string& server : servers) {
    std::string its = server.rfind("turns:", 0) == 0                      ? "tls"
                      : server.find("transport=tcp") != std::string::npos ? "tcp"
                                                                          : "udp";
    if (!protocol.empty() && its != protocol) return "";
    protocol = its;
  }
  return protocol;
}

void Peer::State::candidate_pair(Callback<CandidatePair> done) {
  on_pair_.push_back(std::move(done));  // stays on the worker; replies come in order
  webrtc_stats(webrtcbin_.get(), mail_, [weak = weak_from_this()](const WebrtcReply& reply) {
    const auto self = weak.lock();
    if (!self || self->closed_ || self->on_pair_.empty()) return;
    const auto done = std::move(self->on_pair_.front());
    self->on_pair_.pop_front();
    CandidatePair pair;
    const GstStructure* stats = reply.structure.get();
    const GstStructure* selected = nullptr;
    for (gint i = 0; stats && i < gst_structure_n_fields(stats) && !selected; i++) {
      const GValue* value = gst_structure_get_value(stats, gst_structure_nth_field_name(stats, i));
      if (!GST_VALUE_HOLDS_STRUCTURE(value)) continue;
      const GstStructure* s = gst_value_get_structure(value);
      if (gst_structure_has_field(s, "local-candidate-id") &&
          gst_structure_has_field(s, "remote-candidate-id"))
        selected = s;
    }
    const auto read = [&](const char* id_field, std::string& type, std::string& address) {
      const gchar* id = selected ? gst_structure_get_string(selected, id_field) : nullptr;
      const GValue* value = id ? gst_structure_get_value(stats, id) : nullptr;
      if (!value || !GST_VALUE_HOLDS_STRUCTURE(value)) return;
      const GstStructure* s = gst_value_get_structure(value);
      const gchar* kind = gst_structure_get_string(s, "candidate-type");
      const gchar* ip = gst_structure_get_string(s, "address");
      const gchar* protocol = gst_structure_get_string(s, "relay-protocol");
      if (!protocol) protocol = gst_structure_get_string(s, "protocol");
      guint port = 0;
      gst_structure_get_uint(s, "port", &port);
      if (kind) type = kind;
      if (ip) address = std::string(ip) + ":" + std::to_string(port);
      if (protocol && pair.protocol.empty()) pair.protocol = protocol;
    };
    read("local-candidate-id", pair.local_type, pair.local_address);
    read("remote-candidate-id", pair.remote_type, pair.remote_address);
    if (pair.local_type == "relay" && pair.protocol == "none")
      pair.protocol = relay_protocol(self->settings_.turn_servers);
    if (pair.local_address.empty() || pair.remote_address.empty()) {
      Error error;
      error.kind = ErrorKind::peer;
      error.message = "No candidate pair is in use.";
      done(std::move(error));
    } else {
      done(std::move(pair));
    }
  });
}

}  // namespace cfr
