#include "webrtc_sfu.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <deque>

#include <sstream>

namespace cfr::test {

namespace {

GstPromise* waitable() {
  return gst_promise_new();
}

}  // namespace

WebrtcSfu::WebrtcSfu() {
  pipeline_ = gst_pipeline_new("sfu");
  bin_ = gst_element_factory_make("webrtcbin", "sfu-pc");
  g_object_set(bin_, "bundle-policy", GST_WEBRTC_BUNDLE_POLICY_MAX_BUNDLE, "latency", 0u, nullptr);
  GObject *ice = nullptr, *agent = nullptr;
  g_object_get(bin_, "ice-agent", &ice, nullptr);
  g_object_get(ice, "agent", &agent, nullptr);
  g_object_set(agent, "upnp", FALSE, "ice-tcp", FALSE, "stun-pacing-timer", 5u, nullptr);
  gboolean added = FALSE;
  g_signal_emit_by_name(ice, "add-local-ip-address", "127.0.0.1", &added);
  g_object_unref(agent);
  g_object_unref(ice);
  g_signal_connect(bin_, "pad-added", G_CALLBACK(on_pad_added), this);
  g_signal_connect(bin_, "on-new-transceiver",
                   G_CALLBACK(+[](GstElement*, GstWebRTCRTPTransceiver* t, gpointer) {
                     GstWebRTCKind kind;
                     g_object_get(t, "kind", &kind, nullptr);
                     if (kind == GST_WEBRTC_KIND_VIDEO) g_object_set(t, "do-nack", TRUE, nullptr);
                   }),
                   nullptr);
  gst_bin_add(GST_BIN(pipeline_), bin_);
  gst_element_set_state(pipeline_, GST_STATE_PLAYING);
}

WebrtcSfu::~WebrtcSfu() {
  for (Sender& sender : senders_) gst_object_unref(sender.transceiver);
  gst_element_set_state(pipeline_, GST_STATE_NULL);
  gst_object_unref(pipeline_);
}

void WebrtcSfu::on_pad_added(GstElement*, GstPad* pad, gpointer data) {
  auto* self = static_cast<WebrtcSfu*>(data);
  if (!GST_PAD_IS_SRC(pad)) return;
  GstElement* sink = gst_element_factory_make("fakesink", nullptr);
  g_object_set(sink, "sync", FALSE, "async", FALSE, nullptr);
  gst_bin_add(GST_BIN(self->pipeline_), sink);
  gst_element_sync_state_with_parent(sink);
  GstPad* target = gst_element_get_static_pad(sink, "sink");
  gst_pad_add_probe(
      pad, GST_PAD_PROBE_TYPE_BUFFER,
      [](GstPad* p, GstPadProbeInfo* info, gpointer d) {
        auto* sfu = static_cast<WebrtcSfu*>(d);
        GstBuffer* buffer = GST_PAD_PROBE_INFO_BUFFER(info);
        guint8 head[12] = {};
        gst_buffer_extract(buffer, 0, head, sizeof head);
        GstCaps* caps = gst_pad_get_current_caps(p);
        const gchar* encoding =
            caps ? gst_structure_get_string(gst_caps_get_structure(caps, 0), "encoding-name")
                 : nullptr;
        const std::string name = GST_PAD_NAME(p);
        sfu->gate_.update([&] {
          Stream& stream = sfu->streams_[name];
          if (encoding) stream.encoding = encoding;
          stream.ssrc = GST_READ_UINT32_BE(head + 8);
          const uint16_t number = GST_READ_UINT16_BE(head + 2);
          if (stream.packets++) stream.missing += static_cast<uint16_t>(number - stream.last - 1);
          stream.last = number;
          stream.payloads[head[1] & 0x7f]++;
        });
        if (caps) gst_caps_unref(caps);
        return GST_PAD_PROBE_OK;
      },
      self, nullptr);
  gst_pad_link(pad, target);
  gst_object_unref(target);
}

std::string WebrtcSfu::perform(const char* create, const char* field, GstWebRTCSDPType type) {
  GstPromise* promise = waitable();
  g_signal_emit_by_name(bin_, create, nullptr, promise);
  gst_promise_wait(promise);
  const GstStructure* reply = gst_promise_get_reply(promise);
  GstWebRTCSessionDescription* description = nullptr;
  if (reply)
    gst_structure_get(reply, field, GST_TYPE_WEBRTC_SESSION_DESCRIPTION, &description, nullptr);
  gst_promise_unref(promise);
  if (!description) {
    ADD_FAILURE() << create << " gave nothing";
    return {};
  }
  gchar* text = gst_sdp_message_as_text(description->sdp);
  gst_webrtc_session_description_free(description);
  const std::string sdp = text;
  g_free(text);
  set(true, type, sdp);
  return gathered();
}

void WebrtcSfu::set(bool local, GstWebRTCSDPType type, const std::string& sdp) {
  GstSDPMessage* message = nullptr;
  ASSERT_EQ(gst_sdp_message_new_from_text(sdp.c_str(), &message), GST_SDP_OK);
  GstWebRTCSessionDescription* description = gst_webrtc_session_description_new(type, message);
  GstPromise* promise = waitable();
  g_signal_emit_by_name(bin_, local ? "set-local-description" : "set-remote-description",
                        description, promise);
  gst_promise_wait(promise);
  const GstStructure* reply = gst_promise_get_reply(promise);
  if (reply && gst_structure_has_field(reply, "error")) {
    GError* error = nullptr;
    gst_structure_get(reply, "error", G_TYPE_ERROR, &error, nullptr);
    ADD_FAILURE() << (local ? "local" : "remote") << ": " << error->message << "\n" << sdp;
    g_clear_error(&error);
  }
  gst_promise_unref(promise);
  gst_webrtc_session_description_free(description);
}

std::string WebrtcSfu::gathered() {
  Gate gate;
  const gulong id = g_signal_connect(bin_, "notify::ice-gathering-state",
                                     G_CALLBACK(+[](GstElement*, GParamSpec*, gpointer g) {
                                       static_cast<Gate*>(g)->update([] {});
                                     }),
                                     &gate);
  EXPECT_TRUE(gate.wait([this] {
    GstWebRTCICEGatheringState state;
    g_object_get(bin_, "ice-gathering-state", &state, nullptr);
    return state == GST_WEBRTC_ICE_GATHERING_STATE_COMPLETE;
  }));
  g_signal_handler_disconnect(bin_, id);
  GstWebRTCSessionDescription* description = nullptr;
  g_object_get(bin_, "local-description", &description, nullptr);
  gchar* text = gst_sdp_message_as_text(description->sdp);
  const std::string sdp = text;
  g_free(text);
  gst_webrtc_session_description_free(description);
  return sdp;
}

std::string WebrtcSfu::answer(const std::string& offer) {
  set(false, GST_WEBRTC_SDP_TYPE_OFFER, offer);
  return perform("create-answer", "answer", GST_WEBRTC_SDP_TYPE_ANSWER);
}

void WebrtcSfu::add_sender(const std::string& caps_text, const std::string& feed) {
  GstCaps* caps = gst_caps_from_string(caps_text.c_str());
  GstWebRTCRTPTransceiver* transceiver = nullptr;
  g_signal_emit_by_name(bin_, "add-transceiver", GST_WEBRTC_RTP_TRANSCEIVER_DIRECTION_SENDONLY,
                        caps, &transceiver);
  gst_caps_unref(caps);
  ASSERT_NE(transceiver, nullptr);
  senders_.push_back({transceiver, feed});
}

std::string WebrtcSfu::offer() {
  return perform("create-offer", "offer", GST_WEBRTC_SDP_TYPE_OFFER);
}

void WebrtcSfu::accept(const std::string& answer) {
  set(false, GST_WEBRTC_SDP_TYPE_ANSWER, answer);
  for (Sender& sender : senders_) {
    if (sender.linked) continue;
    std::vector<GstPad*> pads;
    GST_OBJECT_LOCK(bin_);
    for (GList* l = bin_->sinkpads; l; l = l->next)
      pads.push_back(GST_PAD(gst_object_ref(l->data)));
    GST_OBJECT_UNLOCK(bin_);
    for (GstPad* pad : pads) {
      GstWebRTCRTPTransceiver* transceiver = nullptr;
      g_object_get(pad, "transceiver", &transceiver, nullptr);
      if (transceiver == sender.transceiver && !sender.linked) {
        GError* error = nullptr;
        GstElement* feed = gst_parse_bin_from_description(sender.feed.c_str(), TRUE, &error);
        EXPECT_EQ(error, nullptr) << error->message;
        gst_bin_add(GST_BIN(pipeline_), feed);
        GstPad* src = gst_element_get_static_pad(feed, "src");
        EXPECT_EQ(gst_pad_link(src, pad), GST_PAD_LINK_OK);
        gst_pad_add_probe(
            src, GST_PAD_PROBE_TYPE_EVENT_UPSTREAM,
            [](GstPad*, GstPadProbeInfo* info, gpointer d) {
              const GstStructure* s = gst_event_get_structure(GST_PAD_PROBE_INFO_EVENT(info));
              if (s && gst_structure_has_name(s, "GstForceKeyUnit"))
                ++*static_cast<std::atomic<int>*>(d);
              return GST_PAD_PROBE_OK;
            },
            &key_frame_requests_, nullptr);
        gst_object_unref(src);
        gst_element_sync_state_with_parent(feed);
        sender.linked = true;
      }
      gst_object_unref(transceiver);
      gst_object_unref(pad);
    }
    EXPECT_TRUE(sender.linked);
  }
}

bool WebrtcSfu::request_key_frame(const std::string& encoding) {
  std::string name;
  for (const auto& [pad, stream] : streams())
    if (stream.encoding == encoding) name = pad;
  GstPad* pad = gst_element_get_static_pad(bin_, name.c_str());
  if (!pad) return false;
  const bool sent = gst_pad_send_event(
      pad, gst_event_new_custom(
               GST_EVENT_CUSTOM_UPSTREAM,
               gst_structure_new("GstForceKeyUnit", "all-headers", G_TYPE_BOOLEAN, TRUE, nullptr)));
  gst_object_unref(pad);
  return sent;
}

std::map<std::string, Stream> WebrtcSfu::streams() {
  return gate_.read([this] { return streams_; });
}

void WebrtcSfu::answer_losses_at_once() {
  GstElement* rtpbin = gst_bin_get_by_name(GST_BIN(bin_), "rtpbin");
  GObject* session = nullptr;
  g_signal_emit_by_name(rtpbin, "get-internal-session", 0, &session);
  ASSERT_NE(session, nullptr);
  g_object_set(session, "bandwidth", 10e6, nullptr);
  g_object_unref(session);
  gst_object_unref(rtpbin);
}

uint64_t WebrtcSfu::packets(const std::string& encoding) {
  uint64_t packets = 0;
  for (const auto& [pad, stream] : streams())
    if (stream.encoding == encoding) packets += stream.packets;
  return packets;
}

bool WebrtcSfu::wait_for_packets(const std::string& encoding, uint64_t more) {
  const uint64_t target = packets(encoding) + more;
  return gate_.wait([&] {
    uint64_t packets = 0;
    for (const auto& [pad, stream] : streams_)
      if (stream.encoding == encoding) packets += stream.packets;
    return packets >= target;
  });
}

namespace {

sockaddr_in loopback(int port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  return address;
}

}  // namespace

SlowPath::SlowPath(int target_port, int delay_ms) : target_port_(target_port), delay_ms_(delay_ms) {
  for (int* s : {&near_, &far_}) {
    *s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    const sockaddr_in any = loopback(0);
    EXPECT_EQ(bind(*s, reinterpret_cast<const sockaddr*>(&any), sizeof any), 0);
  }
  sockaddr_in bound = {};
  socklen_t size = sizeof bound;
  getsockname(near_, reinterpret_cast<sockaddr*>(&bound), &size);
  port_ = ntohs(bound.sin_port);
  thread_ = std::thread([this] { run(); });
}

SlowPath::~SlowPath() {
  stop_ = true;
  thread_.join();
  close(near_);
  close(far_);
}

void SlowPath::run() {
  struct Packet {
    gint64 due;
    bool to_sfu;
    std::vector<char> bytes;
  };
  std::deque<Packet> queue;
  sockaddr_in client = {};
  while (!stop_) {
    pollfd sockets[] = {{near_, POLLIN, 0}, {far_, POLLIN, 0}};
    poll(sockets, 2, 1);
    const gint64 now = g_get_monotonic_time();
    for (const bool to_sfu : {true, false}) {
      if (!(sockets[to_sfu ? 0 : 1].revents & POLLIN)) continue;
      std::vector<char> bytes(2048);
      sockaddr_in from = {};
      socklen_t size = sizeof from;
      const ssize_t n = recvfrom(to_sfu ? near_ : far_, bytes.data(), bytes.size(), 0,
                                 reinterpret_cast<sockaddr*>(&from), &size);
      if (n <= 0) continue;
      if (to_sfu) client = from;
      bytes.resize(static_cast<size_t>(n));
      queue.push_back({now + delay_ms_ * 1000, to_sfu, std::move(bytes)});
    }
    while (!queue.empty() && queue.front().due <= now) {
      const Packet& packet = queue.front();
      const sockaddr_in to = packet.to_sfu ? loopback(target_port_) : client;
      sendto(packet.to_sfu ? far_ : near_, packet.bytes.data(), packet.bytes.size(), 0,
             reinterpret_cast<const sockaddr*>(&to), sizeof to);
      queue.pop_front();
    }
  }
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
  return text;
}

std::string like_pion(const std::string& sdp) {
  std::istringstream in(sdp);
  std::string line, out, fingerprint, setup;
  std::vector<std::string> candidates;
  bool first_section = true, in_section = false;
  std::string head, body;
  while (std::getline(in, line)) {
    while (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.empty()) continue;
    if (line.rfind("m=", 0) == 0) {
      first_section = !in_section;
      in_section = true;
    }
    if (line.rfind("a=fingerprint:", 0) == 0) {
      fingerprint = line;
      continue;
    }
    if (line.rfind("a=setup:", 0) == 0) {
      setup = line;
      continue;
    }
    if (line.rfind("a=bundle-only", 0) == 0) continue;
    if (line.rfind("a=candidate:", 0) == 0) {
      if (!first_section) continue;
      std::string second = line;
      const size_t at = second.find(" 1 ");
      second.replace(at, 3, " 2 ");
      body += line + "\r\n" + second + "\r\n";
      continue;
    }
    if (line.rfind("a=rtcp-fb:", 0) == 0) line += " ";
    if (line.rfind("m=", 0) == 0) {
      const size_t at = line.find(" 0 UDP");
      if (at != std::string::npos) line.replace(at, 3, " 9 ");
    }
    (in_section ? body : head) += line + "\r\n";
  }
  return head + fingerprint + "\r\n" + setup + "\r\na=ice-lite\r\n" + body;
}

}  // namespace cfr::test
