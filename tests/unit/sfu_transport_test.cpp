// The SFU's transport and forwarder against webrtcbin: real ICE, DTLS and SRTP on loopback.
#include "sfu/transport.h"

#include <dirent.h>
#include <gst/gst.h>
#include <gst/rtp/rtp.h>
#include <gst/sdp/sdp.h>
#include <gst/video/video.h>
#include <gst/webrtc/webrtc.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <mutex>
#include <set>

#include "sfu/forwarder.h"
#include "sfu/sdp.h"
#include "util/gref.h"

namespace cfr::sfu {
namespace {

constexpr uint32_t kEgressSsrc = 0x5e550001, kEgressRtx = 0x5e550002;

struct Context {
  Context() : context(g_main_context_new()) {}
  ~Context() { g_main_context_unref(context); }
  // Serves the SFU until `done`, but no longer than the deadline.
  bool run_until(const std::function<bool()>& done, int deadline_ms = 15000) {
    int64_t end = g_get_monotonic_time() + int64_t(deadline_ms) * 1000;
    GSource* tick = g_timeout_source_new(10);
    g_source_set_callback(
        tick, [](gpointer) -> gboolean { return G_SOURCE_CONTINUE; }, nullptr, nullptr);
    g_source_attach(tick, context);
    bool ok = done();
    while (!ok && g_get_monotonic_time() < end) {
      g_main_context_iteration(context, TRUE);
      if (on_tick) on_tick();
      ok = done();
    }
    g_source_destroy(tick);
    g_source_unref(tick);
    return ok;
  }
  void drain() {
    while (g_main_context_iteration(context, FALSE)) {
    }
  }
  GMainContext* context;
  std::function<void()> on_tick;
};

// One session of a small SFU.
struct Link : Transport::Listener {
  Link(std::string id, Context& context, Forwarder* forwarder)
      : id(std::move(id)), forwarder(forwarder) {
    auto opened = Transport::open(context.context, "127.0.0.1", *this);
    if (opened)
      transport = std::move(*opened);
    else
      ADD_FAILURE() << opened.error().message;
  }
  void on_transport_connected() override {
    ++connected;
    if (forwarder) forwarder->set_connected(id, true, g_get_monotonic_time());
  }
  void on_transport_closed(const std::string& reason) override {
    why = reason;
    ++closed;
    if (forwarder) forwarder->set_connected(id, false, g_get_monotonic_time());
    if (close_within) transport.reset();
  }
  void on_transport_packet(Bytes packet, bool rtcp, int64_t arrival_us) override {
    ++packets;
    if (auto rtp = RtpPacket::parse(packet); rtp && !rtcp) ssrcs.insert(rtp->ssrc);
    if (!forwarder) return;
    if (rtcp)
      forwarder->on_rtcp(id, packet, arrival_us);
    else
      forwarder->on_rtp(id, packet, arrival_us);
  }
  void on_transport_heard(int64_t) override { ++heard; }

  std::string id;
  Forwarder* forwarder;
  std::unique_ptr<Transport> transport;
  int connected = 0, closed = 0, packets = 0, heard = 0;
  std::set<uint32_t> ssrcs;  // of RTP
  bool close_within = false;
  std::string why;
};

struct Sfu : Forwarder::Output {
  explicit Sfu(Context& context)
      : context(context), forwarder(*this, g_get_real_time() - g_get_monotonic_time(), 7) {
    context.on_tick = [this] { forwarder.on_tick(g_get_monotonic_time()); };
  }
  ~Sfu() override { context.on_tick = nullptr; }
  Link& open(const std::string& id) {
    links[id] = std::make_unique<Link>(id, context, &forwarder);
    return *links[id];
  }
  void send_rtp(const std::string& session, Bytes packet) override {
    links[session]->transport->send(packet, false);
  }
  void send_rtcp(const std::string& session, Bytes packet) override {
    links[session]->transport->send(packet, true);
  }
  void media_started(const TrackAddress&) override {}

  // Answers a publisher's offer.
  std::string answer(Link& link, const std::string& offer, bool be_client = false) {
    auto client = read_description(offer);
    if (!client) {
      ADD_FAILURE() << client.error().message;
      return "";
    }
    std::vector<OurSection> ours;
    for (const ClientSection& section : client->sections) {
      OurSection answer;
      answer.mid = section.mid;
      answer.kind = section.kind;
      answer.protocol = section.protocol;
      answer.direction = Direction::recvonly;
      answer.codecs = section.codecs;
      ours.push_back(answer);
      MediaSection media;
      media.mid = section.mid;
      media.kind = section.kind;
      media.codecs = section.codecs;
      media.ssrcs = section.ssrcs;
      media.extensions = extension_ids(section.extensions);
      forwarder.set_ingress({link.id, section.mid}, media);
    }
    RemoteTransport remote = client->transport;
    remote.client_is_passive = be_client;
    if (spoil_fingerprint) remote.fingerprint[0] = remote.fingerprint[0] == '0' ? '1' : '0';
    link.transport->set_remote(remote);
    DescriptionHead head;
    head.origin_id = head.version = 1;
    head.we_are_client = be_client;
    return write_description(head, link.transport->local(), ours);
  }
  static OurSection pulled_section() {
    MediaCodec vp8;
    vp8.name = "VP8";
    vp8.payload_type = 100;
    vp8.rtx_payload_type = 101;
    vp8.nack = vp8.pli = true;
    OurSection section;
    section.mid = "0";
    section.kind = "video";
    section.protocol = "UDP/TLS/RTP/SAVPF";
    section.direction = Direction::sendonly;
    section.codecs = {vp8};
    section.ssrcs = {kEgressSsrc, kEgressRtx};
    section.cname = "name";
    section.stream_id = "stream";
    return section;
  }
  std::string offer(Link& link) {
    DescriptionHead head;
    head.is_offer = true;
    head.origin_id = head.version = 1;
    return write_description(head, link.transport->local(), {pulled_section()});
  }
  void take_answer(Link& link, const std::string& answer, const TrackAddress& source) {
    auto client = read_description(answer);
    ASSERT_TRUE(client) << client.error().message;
    MediaSection media;
    media.mid = "0";
    media.kind = "video";
    media.codecs = client->sections.at(0).codecs;
    forwarder.set_egress({link.id, "0"}, source, media, {kEgressSsrc, kEgressRtx}, "name", {},
                         g_get_monotonic_time());
    link.transport->set_remote(client->transport);
  }

  Context& context;
  Forwarder forwarder;
  std::map<std::string, std::unique_ptr<Link>> links;
  bool spoil_fingerprint = false;
};

using Payload = std::vector<uint8_t>;

struct Client {
  explicit Client(const std::string& media) {
    GError* error = nullptr;
    pipeline = gref<GstElement>::sink(gst_pipeline_new(nullptr));
    GstElement* made = gst_element_factory_make("webrtcbin", "w");
    g_object_set(made, "bundle-policy", GST_WEBRTC_BUNDLE_POLICY_MAX_BUNDLE, nullptr);
    gst_bin_add(GST_BIN(pipeline.get()), made);
    if (!media.empty()) {
      GstElement* bin = gst_parse_bin_from_description(media.c_str(), TRUE, &error);
      EXPECT_EQ(error, nullptr) << error->message;
      if (!bin) std::abort();
      gst_bin_add(GST_BIN(pipeline.get()), bin);
      gst_element_link_pads(bin, "src", made, "sink_0");
    }
    webrtc = gref<GstElement>::adopt(gst_bin_get_by_name(GST_BIN(pipeline.get()), "w"));
    // Loopback alone, and no waiting for routers.
    GObject *ice = nullptr, *agent = nullptr;
    g_object_get(webrtc.get(), "ice-agent", &ice, nullptr);
    gboolean added = FALSE;
    g_signal_emit_by_name(ice, "add-local-ip-address", "127.0.0.1", &added);
    g_object_get(ice, "agent", &agent, nullptr);
    g_object_set(agent, "upnp", FALSE, "ice-tcp", FALSE, "stun-pacing-timer", 5, nullptr);
    g_object_unref(agent);
    g_object_unref(ice);
    g_signal_connect(webrtc.get(), "on-new-transceiver",
                     G_CALLBACK(+[](GstElement*, GstWebRTCRTPTransceiver* transceiver, gpointer) {
                       g_autoptr(GstCaps) caps = gst_caps_from_string(
                           "application/x-rtp,media=video,encoding-name=VP8,clock-rate=90000,"
                           "rtcp-fb-nack-pli=(boolean)true");
                       g_object_set(transceiver, "codec-preferences", caps, "do-nack", TRUE,
                                    nullptr);
                     }),
                     nullptr);
    g_signal_connect(
        webrtc.get(), "pad-added",
        G_CALLBACK(+[](GstElement*, GstPad* pad, Client* client) { client->play(pad); }), this);
  }
  ~Client() { stop(); }
  void stop() { gst_element_set_state(pipeline.get(), GST_STATE_NULL); }

  void play(GstPad* pad) {
    if (GST_PAD_DIRECTION(pad) != GST_PAD_SRC) return;
    GstElement* sink = gst_element_factory_make("fakesink", nullptr);
    g_object_set(sink, "sync", FALSE, "async", FALSE, nullptr);
    gst_bin_add(GST_BIN(pipeline.get()), sink);
    auto target = gref<GstPad>::adopt(gst_element_get_static_pad(sink, "sink"));
    watch(target.get());
    gst_element_sync_state_with_parent(sink);
    gst_pad_link(pad, target.get());
    std::lock_guard lock(mutex);
    played_pad = gref<GstPad>::ref(pad);
  }
  // Keeps the payload and the numbers of what passes the pad.
  void watch(GstPad* pad) {
    gst_pad_add_probe(
        pad, GstPadProbeType(GST_PAD_PROBE_TYPE_BUFFER | GST_PAD_PROBE_TYPE_BUFFER_LIST),
        [](GstPad*, GstPadProbeInfo* info, gpointer data) {
          auto* client = static_cast<Client*>(data);
          if (GST_PAD_PROBE_INFO_TYPE(info) & GST_PAD_PROBE_TYPE_BUFFER_LIST) {
            GstBufferList* list = gst_pad_probe_info_get_buffer_list(info);
            for (guint i = 0; i < gst_buffer_list_length(list); ++i)
              client->keep(gst_buffer_list_get(list, i));
          } else {
            client->keep(gst_pad_probe_info_get_buffer(info));
          }
          return GST_PAD_PROBE_OK;
        },
        this, nullptr);
  }
  void keep(GstBuffer* buffer) {
    GstRTPBuffer rtp = GST_RTP_BUFFER_INIT;
    if (!gst_rtp_buffer_map(buffer, GST_MAP_READ, &rtp)) return;
    auto* data = static_cast<uint8_t*>(gst_rtp_buffer_get_payload(&rtp));
    guint size = gst_rtp_buffer_get_payload_len(&rtp);
    std::lock_guard lock(mutex);
    payloads.emplace_back(data, data + size);
    sequences.push_back(gst_rtp_buffer_get_seq(&rtp));
    ssrcs.insert(gst_rtp_buffer_get_ssrc(&rtp));
    payload_types.insert(gst_rtp_buffer_get_payload_type(&rtp));
    gst_rtp_buffer_unmap(&rtp);
  }
  std::size_t count() {
    std::lock_guard lock(mutex);
    return payloads.size();
  }

  void set_description(const char* signal, GstWebRTCSDPType type, const std::string& text) {
    GstSDPMessage* message = nullptr;
    ASSERT_EQ(gst_sdp_message_new_from_text(text.c_str(), &message), GST_SDP_OK);
    GstWebRTCSessionDescription* description = gst_webrtc_session_description_new(type, message);
    GstPromise* promise = gst_promise_new();
    g_signal_emit_by_name(webrtc.get(), signal, description, promise);
    gst_promise_wait(promise);
    const GstStructure* reply = gst_promise_get_reply(promise);
    EXPECT_FALSE(reply && gst_structure_has_field(reply, "error"))
        << signal << ": " << (reply ? gst_structure_to_string(reply) : "") << "\n"
        << text;
    gst_promise_unref(promise);
    gst_webrtc_session_description_free(description);
  }
  std::string create(const char* signal, const char* field) {
    GstPromise* promise = gst_promise_new();
    g_signal_emit_by_name(webrtc.get(), signal, nullptr, promise);
    gst_promise_wait(promise);
    GstWebRTCSessionDescription* description = nullptr;
    gst_structure_get(gst_promise_get_reply(promise), field, GST_TYPE_WEBRTC_SESSION_DESCRIPTION,
                      &description, nullptr);
    gst_promise_unref(promise);
    if (!description) {
      ADD_FAILURE() << "no " << field;
      return "";
    }
    g_autofree char* text = gst_sdp_message_as_text(description->sdp);
    gst_webrtc_session_description_free(description);
    return text;
  }
  std::string make_offer() {
    gst_element_set_state(pipeline.get(), GST_STATE_PLAYING);
    auto sink = gref<GstElement>::adopt(gst_bin_get_by_name(GST_BIN(pipeline.get()), "pay"));
    // The offer lists what the pads have caps for.
    auto pad = gref<GstPad>::adopt(gst_element_get_static_pad(sink.get(), "src"));
    int64_t end = g_get_monotonic_time() + 10000000;
    while (!gst_pad_has_current_caps(pad.get()) && g_get_monotonic_time() < end) g_usleep(1000);
    std::string offer = create("create-offer", "offer");
    set_description("set-local-description", GST_WEBRTC_SDP_TYPE_OFFER, offer);
    return offer;
  }
  std::string make_answer(const std::string& offer) {
    gst_element_set_state(pipeline.get(), GST_STATE_PLAYING);
    set_description("set-remote-description", GST_WEBRTC_SDP_TYPE_OFFER, offer);
    std::string answer = create("create-answer", "answer");
    set_description("set-local-description", GST_WEBRTC_SDP_TYPE_ANSWER, answer);
    return answer;
  }
  void take_answer(const std::string& answer) {
    set_description("set-remote-description", GST_WEBRTC_SDP_TYPE_ANSWER, answer);
  }

  gref<GstElement> pipeline, webrtc;
  std::mutex mutex;
  gref<GstPad> played_pad;
  std::vector<Payload> payloads;
  std::vector<uint16_t> sequences;
  std::set<uint32_t> ssrcs;
  std::set<int> payload_types;
};

constexpr char kVideo[] =
    "videotestsrc is-live=true ! video/x-raw,width=160,height=120,framerate=30/1 ! "
    "vp8enc name=enc deadline=1 keyframe-max-dist=100000 ! rtpvp8pay name=pay pt=96 "
    "picture-id-mode=2 ! capsfilter caps=\"application/x-rtp,rtcp-fb-nack-pli=(boolean)true\"";

struct Publisher : Client {
  Publisher() : Client(kVideo) {
    auto pay = gref<GstElement>::adopt(gst_bin_get_by_name(GST_BIN(pipeline.get()), "pay"));
    auto pad = gref<GstPad>::adopt(gst_element_get_static_pad(pay.get(), "src"));
    watch(pad.get());
  }
};

class SfuTransport : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    gst_init(nullptr, nullptr);
    Transport::prepare();
  }
  Context context;
  Sfu sfu{context};

  // The answer to the publisher's offer, with its first mid.
  std::string publish(Publisher& publisher, Link& link, bool be_client = false) {
    std::string offer = publisher.make_offer();
    std::string answer = sfu.answer(link, offer, be_client);
    publisher.take_answer(answer);
    auto read = read_description(offer);
    return read ? read->sections.at(0).mid : "";
  }
};

TEST_F(SfuTransport, EveryPacketReachesThePullerWithItsPayloadUnchanged) {
  Link& a = sfu.open("a");
  Link& b = sfu.open("b");
  Publisher publisher;
  Client player("");
  std::string mid = publish(publisher, a);
  std::string answer = player.make_answer(sfu.offer(b));
  sfu.take_answer(b, answer, {"a", mid});
  ASSERT_TRUE(context.run_until([&] { return a.connected && b.connected; }));
  ASSERT_TRUE(context.run_until([&] { return player.count() > 120; })) << player.count();

  std::scoped_lock lock(publisher.mutex, player.mutex);
  EXPECT_EQ(player.ssrcs, std::set<uint32_t>{kEgressSsrc});
  EXPECT_EQ(player.payload_types, std::set<int>{100});
  for (std::size_t i = 1; i < player.sequences.size(); ++i)
    ASSERT_EQ(player.sequences[i], uint16_t(player.sequences[i - 1] + 1));
  // The player's packets are an unbroken piece of the publisher's.
  auto start =
      std::find(publisher.payloads.begin(), publisher.payloads.end(), player.payloads.front());
  ASSERT_NE(start, publisher.payloads.end());
  ASSERT_GE(std::size_t(publisher.payloads.end() - start), player.payloads.size());
  EXPECT_TRUE(std::equal(player.payloads.begin(), player.payloads.end(), start));
}

TEST_F(SfuTransport, APlayersRequestBringsAKeyFrame) {
  Link& a = sfu.open("a");
  Link& b = sfu.open("b");
  Publisher publisher;
  Client player("");
  std::string mid = publish(publisher, a);
  sfu.take_answer(b, player.make_answer(sfu.offer(b)), {"a", mid});
  ASSERT_TRUE(context.run_until([&] { return player.count() > 60; }));
  auto key_frames = [&] { return sfu.forwarder.ingress_stats().at(0).key_frames; };
  uint64_t before = key_frames();
  ASSERT_GE(before, 1u);
  gst_pad_send_event(player.played_pad.get(),
                     gst_video_event_new_upstream_force_key_unit(GST_CLOCK_TIME_NONE, TRUE, 0));
  EXPECT_TRUE(context.run_until([&] { return key_frames() > before; }));
  EXPECT_GE(sfu.forwarder.egress_stats().at(0).key_frame_requests, 1u);
}

TEST_F(SfuTransport, HasRoomForSoManySsrcs) {
  Link& a = sfu.open("a");
  Publisher publisher;
  publish(publisher, a);
  ASSERT_TRUE(context.run_until([&] { return a.packets > 10; }));
  auto pad = gref<GstPad>::adopt(gst_element_get_static_pad(publisher.webrtc.get(), "sink_0"));
  for (uint32_t i = 0; i < 700; ++i) {
    GstBuffer* buffer = gst_rtp_buffer_new_allocate(10, 0, 0);
    GstRTPBuffer rtp = GST_RTP_BUFFER_INIT;
    gst_rtp_buffer_map(buffer, GST_MAP_WRITE, &rtp);
    gst_rtp_buffer_set_payload_type(&rtp, 96);
    gst_rtp_buffer_set_ssrc(&rtp, 0x7000 + i);
    gst_rtp_buffer_unmap(&rtp);
    gst_pad_chain(pad.get(), buffer);
    if (i % 50 == 0) context.drain();
  }
  EXPECT_TRUE(context.run_until([&] { return a.ssrcs.size() >= 500; })) << a.ssrcs.size();
  int packets = a.packets;
  ASSERT_TRUE(context.run_until([&] { return a.packets > packets + 30; })) << "the first go on";
  EXPECT_LE(a.ssrcs.size(), 512u);
}

TEST_F(SfuTransport, AnswersAsDtlsClientWhenTheClientIsPassive) {
  Link& a = sfu.open("a");
  Publisher publisher;
  publish(publisher, a, true);
  EXPECT_TRUE(context.run_until([&] { return a.packets > 30; }));
  EXPECT_EQ(a.connected, 1);
}

TEST_F(SfuTransport, RefusesACertificateThatWasNotAnnounced) {
  sfu.spoil_fingerprint = true;
  Link& a = sfu.open("a");
  Publisher publisher;
  publish(publisher, a);
  ASSERT_TRUE(context.run_until([&] { return a.closed > 0; }));
  EXPECT_EQ(a.why, "the client's certificate is not the announced one");
  EXPECT_EQ(a.connected, 0);
  EXPECT_EQ(a.packets, 0);
}

TEST_F(SfuTransport, DtlsBeginsBeforeTheAnswerIsKnown) {
  // The client starts its checks when it has made its answer; the answer may reach us later.
  Link& b = sfu.open("b");
  Client player("");
  std::string answer = player.make_answer(sfu.offer(b));
  int64_t later = g_get_monotonic_time() + 300000;
  context.run_until([&] { return g_get_monotonic_time() > later; });
  EXPECT_EQ(b.connected, 0);
  int64_t start = g_get_monotonic_time();
  sfu.take_answer(b, answer, {"a", "0"});
  ASSERT_TRUE(context.run_until([&] { return b.connected == 1; }));
  EXPECT_LT(g_get_monotonic_time() - start, 900000) << "a DTLS message was lost and sent again";
}

TEST_F(SfuTransport, NoticesAClientThatVanishesAndOneThatComesBack) {
  Link& a = sfu.open("a");
  a.transport->set_silence_us(1000000);
  Publisher publisher;
  publish(publisher, a);
  ASSERT_TRUE(context.run_until([&] { return a.packets > 30; }));
  EXPECT_GT(a.heard, 0);
  a.transport->set_blocked(true);
  ASSERT_TRUE(context.run_until([&] { return a.closed == 1; }));
  int packets = a.packets;
  a.transport->set_blocked(false);
  ASSERT_TRUE(context.run_until([&] { return a.connected == 2 && a.packets > packets; }));
  publisher.stop();
  ASSERT_TRUE(context.run_until([&] { return a.closed == 2; }));
}

TEST_F(SfuTransport, AKilledTransportIsSilentAndTellsNobody) {
  Link& a = sfu.open("a");
  a.transport->set_silence_us(200000);
  Publisher publisher;
  publish(publisher, a);
  ASSERT_TRUE(context.run_until([&] { return a.packets > 30; }));
  a.transport->kill();
  context.drain();
  int packets = a.packets;
  int64_t later = g_get_monotonic_time() + 600000;
  context.run_until([&] { return g_get_monotonic_time() > later; });
  EXPECT_EQ(a.packets, packets);
  EXPECT_EQ(a.closed, 0);
}

TEST_F(SfuTransport, MayBeDestroyedByItsListener) {
  sfu.spoil_fingerprint = true;
  Link& a = sfu.open("a");
  a.close_within = true;
  Publisher publisher;
  publish(publisher, a);
  ASSERT_TRUE(context.run_until([&] { return a.closed > 0; }));
  context.drain();
  EXPECT_EQ(a.transport, nullptr);
}

int entries(const char* folder) {
  int n = 0;
  if (DIR* dir = opendir(folder)) {
    while (readdir(dir)) ++n;
    closedir(dir);
  }
  return n;
}

TEST_F(SfuTransport, ManyCyclesLeakNeitherDescriptorsNorThreads) {
  auto cycle = [&](bool with_client) {
    Link& link = sfu.open("x");
    if (with_client) {
      Publisher publisher;
      publish(publisher, link);
      EXPECT_TRUE(context.run_until([&] { return link.packets > 0; }));
    } else {
      RemoteTransport remote;
      remote.ufrag = "abcd";
      remote.pwd = "0123456789012345678901";
      remote.fingerprint_hash = "sha-256";
      link.transport->set_remote(remote);
    }
    int64_t start = g_get_monotonic_time();
    sfu.forwarder.remove_session("x");
    sfu.links.erase("x");
    context.drain();
    EXPECT_LT(g_get_monotonic_time() - start, 1000000);
  };
  for (int i = 0; i < 5; ++i) cycle(i % 2);
  int files = entries("/proc/self/fd"), threads = entries("/proc/self/task");
  for (int i = 0; i < 100; ++i) cycle(i % 10 == 0);
  EXPECT_TRUE(context.run_until([&] { return entries("/proc/self/task") <= threads + 2; }));
  EXPECT_LE(entries("/proc/self/fd"), files + 2);
  EXPECT_LE(entries("/proc/self/task"), threads + 2);
}

TEST_F(SfuTransport, AnAddressThatIsNoneIsAnError) {
  Link listener("y", context, nullptr);
  auto opened = Transport::open(context.context, "nonsense", listener);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().message, "bad address nonsense");
}

}  // namespace
}  // namespace cfr::sfu
