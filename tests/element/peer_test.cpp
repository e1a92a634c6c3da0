// Peer on a real webrtcbin, against another one that plays the SFU, over the loopback interface.
#include "rtc/peer.h"

#include <dirent.h>
#include <gst/gst.h>
#include <gtest/gtest.h>

#include <optional>

#include "util/worker.h"
#include "webrtc_sfu.h"

namespace cfr {
namespace {

using test::Gate;
using test::like_pion;
using test::replaced;
using test::WebrtcSfu;

class GstEnvironment : public ::testing::Environment {
 public:
  void SetUp() override { gst_init(nullptr, nullptr); }
};
[[maybe_unused]] const auto* const kEnvironment =
    ::testing::AddGlobalTestEnvironment(new GstEnvironment);

constexpr char kVideo[] =
    "application/x-rtp,media=video,encoding-name=VP8,payload=96,clock-rate=90000,"
    "ssrc=(uint)1111";
constexpr char kAudio[] =
    "application/x-rtp,media=audio,encoding-name=PCMU,payload=0,clock-rate=8000,ssrc=(uint)2222";
constexpr char kOpus[] =
    "application/x-rtp,media=audio,encoding-name=OPUS,payload=111,clock-rate=48000,"
    "encoding-params=(string)2,sprop-stereo=(string)1,ssrc=(uint)3333";

std::string video_feed(int payload, unsigned ssrc) {
  return "videotestsrc is-live=true ! video/x-raw,width=160,height=120,framerate=30/1 ! "
         "vp8enc deadline=1 keyframe-max-dist=10000 ! rtpvp8pay pt=" +
         std::to_string(payload) + " ssrc=" + std::to_string(ssrc);
}
std::string audio_feed(unsigned ssrc) {
  return "audiotestsrc is-live=true samplesperbuffer=160 ! audio/x-raw,rate=8000,channels=1 ! "
         "mulawenc ! rtppcmupay pt=0 min-ptime=20000000 max-ptime=20000000 ssrc=" +
         std::to_string(ssrc);
}
std::string opus_feed(unsigned ssrc) {
  return "audiotestsrc is-live=true ! audio/x-raw,rate=48000,channels=2 ! audioconvert ! opusenc ! "
         "rtpopuspay pt=111 ssrc=" +
         std::to_string(ssrc);
}

// Peer, its worker and its webrtcbin, with a blocking face for tests.
class Client : public Peer::Listener {
 public:
  explicit Client(bool auto_resume = true, unsigned latency_ms = 20)
      : auto_resume_(auto_resume), worker_("peer-test") {
    pipeline_ = gst_pipeline_new("client");
    bin_ = gst_element_factory_make("webrtcbin", "client-pc");
    gst_bin_add(GST_BIN(pipeline_), bin_);
    gst_element_set_state(pipeline_, GST_STATE_PLAYING);
    worker_.call([this, latency_ms] {
      PeerSettings settings;
      settings.loopback = true;
      settings.latency_ms = latency_ms;
      peer_ = std::make_unique<Peer>(worker_, bin_, settings, *this);
    });
  }
  ~Client() override { stop(); }
  void stop() {
    if (!pipeline_) return;
    worker_.call([this] { peer_.reset(); });
    gst_element_set_state(pipeline_, GST_STATE_NULL);
    gst_object_unref(pipeline_);
    pipeline_ = nullptr;
  }

  static Peer::SendTrack track(uint32_t id, const std::string& name, const std::string& caps) {
    return {id, name, gref<GstCaps>::adopt(gst_caps_from_string(caps.c_str()))};
  }

  template <class T, class Start>
  std::optional<Result<T>> run(Start start) {
    struct Answer {
      Gate gate;
      std::optional<Result<T>> result;
    };
    auto answer = std::make_shared<Answer>();
    worker_.call([&] {
      start(*peer_, [answer](Result<T> result) {
        answer->gate.update([&] { answer->result = std::move(result); });
      });
    });
    EXPECT_TRUE(answer->gate.wait([&] { return answer->result.has_value(); })) << "no answer";
    return answer->gate.read([&] { return answer->result; });
  }
  Peer::Offer offer(const std::vector<Peer::SendTrack>& tracks) {
    auto result = run<Peer::Offer>(
        [&](Peer& peer, Peer::Callback<Peer::Offer> done) { peer.create_offer(tracks, done); });
    if (!result || !*result) {
      ADD_FAILURE() << (result ? result->error().message + ": " + result->error().detail : "");
      return {};
    }
    return **result;
  }
  std::optional<Result<Peer::RemoteResult>> try_remote(bool is_offer, const std::string& sdp) {
    return run<Peer::RemoteResult>([&](Peer& peer, Peer::Callback<Peer::RemoteResult> done) {
      peer.set_remote(is_offer, sdp, done);
    });
  }
  std::vector<std::string> remote(bool is_offer, const std::string& sdp) {
    auto result = try_remote(is_offer, sdp);
    if (!result || !*result) {
      ADD_FAILURE() << (result ? result->error().message + ": " + result->error().detail : "");
      return {};
    }
    return (*result)->rejected_mids;
  }
  std::string answer() {
    auto result = run<std::string>(
        [&](Peer& peer, Peer::Callback<std::string> done) { peer.create_answer(done); });
    if (!result || !*result) {
      ADD_FAILURE() << (result ? result->error().message + ": " + result->error().detail : "");
      return {};
    }
    return **result;
  }
  // Links a source to the track's pad.
  void send(uint32_t track, const std::string& feed_text) {
    GstPad* pad = nullptr;
    worker_.call([&] {
      pad = peer_->sink_pad(track);
      if (pad) gst_object_ref(pad);
    });
    ASSERT_NE(pad, nullptr);
    GError* error = nullptr;
    GstElement* feed = gst_parse_bin_from_description(feed_text.c_str(), TRUE, &error);
    ASSERT_EQ(error, nullptr) << error->message;
    gst_bin_add(GST_BIN(pipeline_), feed);
    GstPad* src = gst_element_get_static_pad(feed, "src");
    EXPECT_EQ(gst_pad_link(src, pad), GST_PAD_LINK_OK);
    gst_pad_add_probe(
        src, GST_PAD_PROBE_TYPE_EVENT_UPSTREAM,
        [](GstPad*, GstPadProbeInfo* info, gpointer d) {
          const GstStructure* s = gst_event_get_structure(GST_PAD_PROBE_INFO_EVENT(info));
          auto* self = static_cast<Client*>(d);
          if (s && gst_structure_has_name(s, "GstForceKeyUnit"))
            self->gate_.update([&] { self->key_frame_requests_++; });
          return GST_PAD_PROBE_OK;
        },
        this, nullptr);
    gst_object_unref(src);
    gst_object_unref(pad);
    gst_element_sync_state_with_parent(feed);
  }
  void close_section(const std::string& mid) {
    worker_.call([&] { peer_->close_section(mid); });
  }
  void open_section(const std::string& mid) {
    worker_.call([&] { peer_->open_section(mid); });
  }
  // As an element does whose track has ended.
  void unlink(const std::string& mid) {
    const std::string name = gate_.read([&] { return pad_names_[mid]; });
    GstPad* pad = gst_element_get_static_pad(bin_, name.c_str());
    GstPad* peer = gst_pad_get_peer(pad);
    EXPECT_TRUE(gst_pad_unlink(pad, peer));
    gst_object_unref(peer);
    gst_object_unref(pad);
  }
  [[nodiscard]] bool connected() {
    return gate_.wait([this] { return state_ == PeerConnection::connected; });
  }
  [[nodiscard]] bool failed() {
    return gate_.wait([this] { return state_ == PeerConnection::failed; });
  }
  [[nodiscard]] bool got(const std::string& mid, uint64_t more = 10) {
    const uint64_t target = packets(mid) + more;
    return gate_.wait([&] { return counts_[mid] >= target; });
  }
  uint64_t packets(const std::string& mid) {
    return gate_.read([&] { return counts_[mid]; });
  }
  uint64_t missing(const std::string& mid) {
    return gate_.read([&] { return missing_[mid]; });
  }
  std::string encoding(const std::string& mid) {
    return gate_.read([&] { return encodings_[mid]; });
  }
  [[nodiscard]] bool got_pad() {
    return gate_.wait([this] { return pads_ > 0; });
  }
  size_t pads() {
    return gate_.read([&] { return pads_; });
  }
  [[nodiscard]] bool key_frame_requested() {
    return gate_.wait([this] { return key_frame_requests_ > 0; });
  }

  void on_peer_connection(PeerConnection state) override {
    EXPECT_TRUE(worker_.is_current());
    gate_.update([&] { state_ = state; });
  }
  void on_peer_pad(const std::string& mid, GstPad* pad) override {
    EXPECT_TRUE(worker_.is_current());
    GstElement* sink = gst_element_factory_make("fakesink", nullptr);
    g_object_set(sink, "sync", FALSE, "async", FALSE, nullptr);
    gst_bin_add(GST_BIN(pipeline_), sink);
    gst_element_sync_state_with_parent(sink);
    GstPad* target = gst_element_get_static_pad(sink, "sink");
    struct Seen {
      Client* client;
      std::string mid;
    };
    gst_pad_add_probe(
        target, GST_PAD_PROBE_TYPE_BUFFER,
        [](GstPad* p, GstPadProbeInfo* info, gpointer d) {
          auto* seen = static_cast<Seen*>(d);
          guint8 head[4] = {};
          gst_buffer_extract(GST_PAD_PROBE_INFO_BUFFER(info), 0, head, sizeof head);
          const uint16_t number = GST_READ_UINT16_BE(head + 2);
          GstCaps* caps = gst_pad_get_current_caps(p);
          const gchar* name =
              gst_structure_get_string(gst_caps_get_structure(caps, 0), "encoding-name");
          seen->client->gate_.update([&] {
            if (seen->client->counts_[seen->mid]++)
              seen->client->missing_[seen->mid] +=
                  static_cast<uint16_t>(number - seen->client->last_[seen->mid] - 1);
            seen->client->last_[seen->mid] = number;
            seen->client->encodings_[seen->mid] = name;
          });
          gst_caps_unref(caps);
          return GST_PAD_PROBE_OK;
        },
        new Seen{this, mid}, [](gpointer d) { delete static_cast<Seen*>(d); });
    EXPECT_EQ(gst_pad_link(pad, target), GST_PAD_LINK_OK);
    gst_object_unref(target);
    gate_.update([&] {
      pads_++;
      pad_names_[mid] = GST_PAD_NAME(pad);
    });
    if (auto_resume_) peer_->resume(pad);
  }

  Worker& worker() { return worker_; }
  Peer& peer() { return *peer_; }
  GstElement* bin() { return bin_; }
  Gate gate_;

 private:
  const bool auto_resume_;
  Worker worker_;
  GstElement* pipeline_;
  GstElement* bin_;
  std::unique_ptr<Peer> peer_;
  PeerConnection state_ = PeerConnection::connecting;
  std::map<std::string, uint64_t> counts_;
  std::map<std::string, uint64_t> missing_;  // gaps in the sequence numbers
  std::map<std::string, uint16_t> last_;
  std::map<std::string, std::string> encodings_;
  std::map<std::string, std::string> pad_names_;
  size_t pads_ = 0;
  int key_frame_requests_ = 0;
};

TEST(PeerPush, SendsAudioAndVideoToTheSectionsItOffered) {
  WebrtcSfu sfu;
  Client client;
  const Peer::Offer offer =
      client.offer({Client::track(7, "cam", kVideo), Client::track(8, "mic", kAudio)});
  EXPECT_EQ(offer.mids, (std::map<uint32_t, std::string>{{7, "0"}, {8, "1"}}));
  EXPECT_NE(offer.sdp.find(" 127.0.0.1 "), std::string::npos) << offer.sdp;
  EXPECT_EQ(client.remote(false, like_pion(sfu.answer(offer.sdp))), std::vector<std::string>{});
  ASSERT_TRUE(client.connected());
  client.send(7, video_feed(96, 1111));
  client.send(8, audio_feed(2222));
  EXPECT_TRUE(sfu.wait_for_packets("VP8", 20));
  EXPECT_TRUE(sfu.wait_for_packets("PCMU", 20));
  for (const auto& [pad, stream] : sfu.streams())
    EXPECT_EQ(stream.ssrc, stream.encoding == "VP8" ? 1111u : 2222u) << pad;
}

TEST(PeerPush, BringsKeyFrameRequestsToTheEncoder) {
  WebrtcSfu sfu;
  Client client;
  client.remote(false, like_pion(sfu.answer(client.offer({Client::track(1, "v", kVideo)}).sdp)));
  ASSERT_TRUE(client.connected());
  client.send(1, video_feed(96, 1111));
  ASSERT_TRUE(sfu.wait_for_packets("VP8", 5));
  EXPECT_TRUE(sfu.request_key_frame("VP8"));
  EXPECT_TRUE(client.key_frame_requested());
}

TEST(PeerPush, HearsTheOtherSidesReceiverReports) {
  WebrtcSfu sfu;
  Client client;
  client.remote(false, like_pion(sfu.answer(client.offer({Client::track(1, "v", kVideo)}).sdp)));
  ASSERT_TRUE(client.connected());
  client.send(1, video_feed(96, 1111));
  ASSERT_TRUE(sfu.wait_for_packets("VP8", 5));
  uint64_t rtcp = 0;
  for (int i = 0; i < 100 && rtcp == 0; i++) {
    (void)sfu.wait_for_packets("VP8", 5);
    client.worker().call([&] { rtcp = client.peer().received().rtcp; });
  }
  EXPECT_GT(rtcp, 0u);
}

TEST(PeerPush, AddsATrackOnALiveConnection) {
  WebrtcSfu sfu;
  Client client;
  client.remote(false, like_pion(sfu.answer(client.offer({Client::track(1, "v", kVideo)}).sdp)));
  ASSERT_TRUE(client.connected());
  client.send(1, video_feed(96, 1111));
  ASSERT_TRUE(sfu.wait_for_packets("VP8", 5));
  const Peer::Offer second = client.offer({Client::track(2, "mic", kOpus)});
  EXPECT_EQ(second.mids, (std::map<uint32_t, std::string>{{1, "0"}, {2, "1"}}));
  EXPECT_EQ(second.sdp.find("a=setup:active"), std::string::npos) << "offers say actpass";
  client.remote(false, like_pion(sfu.answer(second.sdp)));
  client.send(2, opus_feed(3333));
  EXPECT_TRUE(sfu.wait_for_packets("OPUS", 10));
  EXPECT_TRUE(sfu.wait_for_packets("VP8", 10));
  const Peer::Offer third = client.offer({Client::track(3, "a2", kAudio)});
  client.remote(false, like_pion(sfu.answer(third.sdp)));
  client.send(3, audio_feed(2222));
  EXPECT_TRUE(sfu.wait_for_packets("PCMU", 10));
  EXPECT_TRUE(sfu.wait_for_packets("VP8", 10));
}

TEST(PeerPush, GoesOnWhenTheSfuRejectsOneSection) {
  WebrtcSfu sfu;
  Client client;
  const Peer::Offer offer =
      client.offer({Client::track(1, "cam", kVideo), Client::track(2, "mic", kAudio)});
  std::string answer = like_pion(sfu.answer(offer.sdp));
  // as pion rejects: port 0 and nothing but the m= line
  const size_t first = answer.find("m=video"), second = answer.find("m=audio");
  std::string candidates;
  for (size_t at = first; (at = answer.find("a=candidate", at)) < second; at++)
    candidates += answer.substr(at, answer.find('\n', at) + 1 - at);
  const std::string credentials =
      answer.substr(answer.find("a=ice-ufrag", second),
                    answer.find("a=rtcp-mux", second) - answer.find("a=ice-ufrag", second));
  answer = answer.substr(0, first) + "m=video 0 UDP/TLS/RTP/SAVPF 0\r\nc=IN IP4 0.0.0.0\r\n" +
           candidates + answer.substr(second);
  answer = replaced(answer, "BUNDLE 0 1", "BUNDLE 1");
  EXPECT_EQ(client.remote(false, answer), std::vector<std::string>{"0"});
  ASSERT_TRUE(client.connected());
  client.send(2, audio_feed(2222));
  EXPECT_TRUE(sfu.wait_for_packets("PCMU", 10));
  const Peer::Offer next = client.offer({Client::track(3, "opus", kOpus)});
  EXPECT_NE(next.sdp.find("m=video 0 "), std::string::npos) << next.sdp;
  EXPECT_NE(next.sdp.find("a=group:BUNDLE 1 2"), std::string::npos) << next.sdp;
}

TEST(PeerPush, SaysInactiveForAClosedSectionAndKeepsTheOthers) {
  WebrtcSfu sfu;
  Client client;
  client.remote(
      false,
      like_pion(sfu.answer(
          client.offer({Client::track(1, "v", kVideo), Client::track(2, "a", kAudio)}).sdp)));
  ASSERT_TRUE(client.connected());
  client.send(1, video_feed(96, 1111));
  client.send(2, audio_feed(2222));
  ASSERT_TRUE(sfu.wait_for_packets("PCMU", 5));
  client.close_section("0");
  const Peer::Offer next = client.offer({Client::track(3, "o", kOpus)});
  EXPECT_NE(next.sdp.find("a=inactive"), std::string::npos);
  // The SFU of this test would run into webrtcbin's own trouble with inactive sections.
  std::string answer = like_pion(sfu.answer(replaced(next.sdp, "a=inactive", "a=sendonly")));
  const size_t at = answer.find("a=recvonly");
  answer.replace(at, 10, "a=inactive");
  EXPECT_EQ(client.remote(false, answer), std::vector<std::string>{});
  client.send(3, opus_feed(3333));
  EXPECT_TRUE(sfu.wait_for_packets("OPUS", 10));
  EXPECT_TRUE(sfu.wait_for_packets("PCMU", 10));
}

TEST(PeerPush, RenumbersPacketsWhenTheAnswerDoes) {
  WebrtcSfu sfu;
  Client client;
  const Peer::Offer offer = client.offer({Client::track(1, "v", kVideo)});
  std::string renumbered = replaced(offer.sdp, "SAVPF 96 97", "SAVPF 100 101");
  renumbered = replaced(renumbered, ":96 ", ":100 ");
  renumbered = replaced(renumbered, ":97 rtx", ":101 rtx");
  renumbered = replaced(renumbered, ":97 apt=96", ":101 apt=100");
  EXPECT_EQ(client.remote(false, like_pion(sfu.answer(renumbered))), std::vector<std::string>{});
  ASSERT_TRUE(client.connected());
  client.send(1, video_feed(96, 1111));
  ASSERT_TRUE(sfu.wait_for_packets("VP8", 10));
  for (const auto& [pad, stream] : sfu.streams()) {
    EXPECT_EQ(stream.payloads.size(), 1u);
    EXPECT_EQ(stream.payloads.count(100), 1u);
  }
}

// Drops every tenth packet of this payload type on its way out of a webrtcbin.
void lose_packets(GstElement* webrtcbin, int payload) {
  GstElement* rtpbin = gst_bin_get_by_name(GST_BIN(webrtcbin), "rtpbin");
  GstPad* pad = gst_element_get_static_pad(rtpbin, "send_rtp_src_0");
  ASSERT_NE(pad, nullptr);
  struct Loss {
    int payload;
    uint64_t seen = 0;
  };
  gst_pad_add_probe(
      pad, GST_PAD_PROBE_TYPE_BUFFER,
      [](GstPad*, GstPadProbeInfo* info, gpointer d) {
        auto* loss = static_cast<Loss*>(d);
        guint8 octet = 0;
        gst_buffer_extract(GST_PAD_PROBE_INFO_BUFFER(info), 1, &octet, 1);
        if ((octet & 0x7f) != loss->payload) return GST_PAD_PROBE_OK;
        return ++loss->seen % 10 == 0 ? GST_PAD_PROBE_DROP : GST_PAD_PROBE_OK;
      },
      new Loss{payload}, [](gpointer d) { delete static_cast<Loss*>(d); });
  gst_object_unref(pad);
  gst_object_unref(rtpbin);
}

TEST(PeerPush, RepairsWhatTheSfuMisses) {
  WebrtcSfu sfu;
  g_object_set(sfu.webrtcbin(), "latency", 1000u, nullptr);
  Client client;
  client.remote(false, like_pion(sfu.answer(client.offer({Client::track(1, "v", kVideo)}).sdp)));
  ASSERT_TRUE(client.connected());
  client.send(1, video_feed(96, 1111));
  ASSERT_TRUE(sfu.wait_for_packets("VP8", 5));
  sfu.answer_losses_at_once();
  lose_packets(client.bin(), 96);
  EXPECT_TRUE(sfu.wait_for_packets("VP8", 100));
  uint64_t missing = 0, packets = 0;
  for (const auto& [pad, stream] : sfu.streams()) {
    missing += stream.missing;
    packets += stream.packets;
  }
  EXPECT_GT(packets, 100u);
  EXPECT_LT(missing, packets / 30) << "a tenth was lost on the way";
}

constexpr char kPullVideo[] =
    "application/x-rtp,media=video,encoding-name=VP8,payload=96,clock-rate=90000,"
    "rtcp-fb-nack-pli=(boolean)true,ssrc=(uint)4242,a-mid=(string)0";
constexpr char kPullAudio[] =
    "application/x-rtp,media=audio,encoding-name=PCMU,payload=0,clock-rate=8000,"
    "ssrc=(uint)4343,a-mid=(string)1";

// Several codecs with RTX, as SFUs offer them.
std::string with_more_codecs(const std::string& offer) {
  std::string out = replaced(offer, "SAVPF 96\r", "SAVPF 125 37 98 36 96 35\r");
  out = replaced(out, "SAVPF 96 97\r", "SAVPF 125 37 98 36 96 97\r");
  const std::string extra =
      "a=rtpmap:125 H264/90000\r\na=fmtp:125 level-asymmetry-allowed=1;packetization-mode=1;"
      "profile-level-id=42e01f\r\na=rtcp-fb:125 nack \r\na=rtcp-fb:125 transport-cc \r\n"
      "a=rtpmap:37 rtx/90000\r\na=fmtp:37 apt=125\r\na=rtpmap:98 VP9/90000\r\n"
      "a=fmtp:98 profile-id=0\r\na=rtpmap:36 rtx/90000\r\na=fmtp:36 apt=98\r\n"
      "a=rtpmap:35 rtx/90000\r\na=fmtp:35 apt=96\r\n"
      "a=extmap:5 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n";
  const size_t at = out.find("a=rtpmap:96 VP8");
  return at == std::string::npos ? out : out.substr(0, at) + extra + out.substr(at);
}

TEST(PeerPull, ReceivesEachTrackAsTheSectionItWasOfferedIn) {
  WebrtcSfu sfu;
  Client client;
  sfu.add_sender(kPullVideo, video_feed(96, 4242));
  sfu.add_sender(kPullAudio, audio_feed(4343));
  EXPECT_EQ(client.remote(true, with_more_codecs(like_pion(sfu.offer()))),
            std::vector<std::string>{});
  const std::string answer = client.answer();
  EXPECT_NE(answer.find("125 H264/90000"), std::string::npos) << answer;
  EXPECT_NE(answer.find("a=fmtp:36 apt=98"), std::string::npos) << answer;
  EXPECT_NE(answer.find("a=rtcp-fb:125 transport-cc"), std::string::npos) << answer;
  EXPECT_NE(answer.find("a=extmap:5 http://www.ietf.org"), std::string::npos) << answer;
  EXPECT_NE(answer.find("a=setup:active"), std::string::npos) << answer;
  sfu.accept(answer);
  ASSERT_TRUE(client.connected());
  EXPECT_TRUE(client.got("0"));
  EXPECT_TRUE(client.got("1"));
  EXPECT_EQ(client.encoding("0"), "VP8");
  EXPECT_EQ(client.encoding("1"), "PCMU");
  EXPECT_EQ(client.pads(), 2u);
}

TEST(PeerPull, FindsTheSectionWithoutAnnouncedSsrcs) {
  WebrtcSfu sfu;
  Client client;
  sfu.add_sender(kPullVideo, video_feed(96, 4242));
  sfu.add_sender(kPullAudio, audio_feed(4343));
  std::string offer = like_pion(sfu.offer());
  for (size_t at; (at = offer.find("a=ssrc")) != std::string::npos;)
    offer.erase(at, offer.find('\n', at) + 1 - at);
  client.remote(true, offer);
  sfu.accept(client.answer());
  ASSERT_TRUE(client.connected());
  EXPECT_TRUE(client.got("0"));
  EXPECT_TRUE(client.got("1"));
  EXPECT_EQ(client.encoding("0"), "VP8");
  EXPECT_EQ(client.encoding("1"), "PCMU");
}

TEST(PeerPull, TakesMoreOffersOnALiveConnection) {
  WebrtcSfu sfu;
  Client client;
  sfu.add_sender(kPullVideo, video_feed(96, 4242));
  client.remote(true, like_pion(sfu.offer()));
  sfu.accept(client.answer());
  ASSERT_TRUE(client.connected());
  ASSERT_TRUE(client.got("0"));
  sfu.add_sender(kPullAudio, audio_feed(4343));
  client.remote(true, replaced(like_pion(sfu.offer()), "a=setup:passive", "a=setup:actpass"));
  const std::string answer = client.answer();
  EXPECT_EQ(answer.find("a=setup:passive"), std::string::npos);
  sfu.accept(answer);
  EXPECT_TRUE(client.got("1"));
  EXPECT_TRUE(client.got("0"));
}

TEST(PeerPull, LosesOnlyTheTrackThatBecomesInactive) {
  WebrtcSfu sfu;
  Client client;
  sfu.add_sender(kPullVideo, video_feed(96, 4242));
  sfu.add_sender(kPullAudio, audio_feed(4343));
  client.remote(true, like_pion(sfu.offer()));
  sfu.accept(client.answer());
  ASSERT_TRUE(client.got("0"));
  ASSERT_TRUE(client.got("1"));
  sfu.add_sender(
      "application/x-rtp,media=audio,encoding-name=OPUS,payload=111,clock-rate=48000,"
      "encoding-params=(string)2,ssrc=(uint)4444,a-mid=(string)2",
      opus_feed(4444));
  std::string offer = replaced(like_pion(sfu.offer()), "a=setup:passive", "a=setup:actpass");
  offer.replace(offer.find("a=sendonly"), 10, "a=inactive");
  EXPECT_EQ(client.remote(true, offer), std::vector<std::string>{});
  const std::string answer = client.answer();
  EXPECT_NE(answer.find("a=inactive"), std::string::npos);
  sfu.accept(replaced(answer, "a=inactive", "a=recvonly"));
  EXPECT_TRUE(client.got("2")) << "a new track still starts";
  EXPECT_TRUE(client.got("1")) << "the other old track goes on";
  // and it can come back
  client.remote(true, replaced(like_pion(sfu.offer()), "a=setup:passive", "a=setup:actpass"));
  const std::string again = client.answer();
  EXPECT_EQ(again.find("a=inactive"), std::string::npos);
  sfu.accept(again);
  EXPECT_TRUE(client.got("1"));
}

// The API may give the section of a closed pull to another track without an offer.
TEST(PeerPull, GivesASectionThatIsUsedAgainToTheListenerAgain) {
  WebrtcSfu sfu;
  Client client;
  sfu.add_sender(kPullVideo, video_feed(96, 4242));
  sfu.add_sender(kPullAudio, audio_feed(4343));
  client.remote(true, like_pion(sfu.offer()));
  sfu.accept(client.answer());
  ASSERT_TRUE(client.got("0"));
  ASSERT_TRUE(client.got("1"));
  client.open_section("1");
  EXPECT_TRUE(client.got("1")) << "nothing changes for a section that was not closed";
  ASSERT_EQ(client.pads(), 2u);
  client.close_section("1");
  client.unlink("1");
  EXPECT_TRUE(client.got("0"));  // a push that was under way is over
  const uint64_t before = client.packets("1");
  EXPECT_TRUE(client.got("0"));
  EXPECT_EQ(client.packets("1"), before);
  client.open_section("1");
  EXPECT_TRUE(client.got("1"));
  EXPECT_EQ(client.pads(), 3u);
  EXPECT_EQ(client.encoding("1"), "PCMU");
}

TEST(PeerPull, AsksTheSenderForKeyFrames) {
  WebrtcSfu sfu;
  Client client;
  sfu.add_sender(kPullVideo, video_feed(96, 4242));
  client.remote(true, like_pion(sfu.offer()));
  sfu.accept(client.answer());
  ASSERT_TRUE(client.got("0"));
  GstPad* pad = gst_element_get_static_pad(client.bin(), "src_0");
  ASSERT_NE(pad, nullptr);
  gst_pad_send_event(pad, gst_event_new_custom(GST_EVENT_CUSTOM_UPSTREAM,
                                               gst_structure_new("GstForceKeyUnit", "all-headers",
                                                                 G_TYPE_BOOLEAN, TRUE, nullptr)));
  gst_object_unref(pad);
  for (int i = 0; i < 100 && sfu.key_frame_requests() == 0; i++) ASSERT_TRUE(client.got("0", 2));
  EXPECT_GT(sfu.key_frame_requests(), 0);
}

TEST(PeerPull, AsksForWhatIsMissingAndTakesRetransmissions) {
  WebrtcSfu sfu;
  Client client(true, 500);  // time for repair on a busy machine, too
  // the audio section last: it must not decide about the video's repair
  sfu.add_sender(kPullVideo, video_feed(96, 4242));
  sfu.add_sender(kPullAudio, audio_feed(4343));
  client.remote(true, like_pion(sfu.offer()));
  const std::string answer = client.answer();
  EXPECT_NE(answer.find("rtx/90000"), std::string::npos);
  sfu.accept(answer);
  ASSERT_TRUE(client.got("0"));
  lose_packets(sfu.webrtcbin(), 96);
  EXPECT_TRUE(client.got("0", 100));
  EXPECT_LT(client.missing("0"), client.packets("0") / 30) << "a tenth was lost on the way";
}

TEST(PeerPull, GivesTransportWideFeedback) {
  constexpr char kTwcc[] =
      "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
  WebrtcSfu sfu;
  Client client;
  const std::string extension = std::string(",extmap-5=(string)") + kTwcc;
  sfu.add_sender(
      kPullVideo + extension + ",rtcp-fb-transport-cc=(boolean)true",
      video_feed(96, 4242) + " ! capsfilter caps=\"application/x-rtp" + extension + "\"");
  client.remote(true, like_pion(sfu.offer()));
  sfu.accept(client.answer());
  ASSERT_TRUE(client.got("0", 5));
  GstElement* rtpbin = gst_bin_get_by_name(GST_BIN(sfu.webrtcbin()), "rtpbin");
  GObject* session = nullptr;
  g_signal_emit_by_name(rtpbin, "get-session", 0, &session);
  ASSERT_NE(session, nullptr);
  Gate gate;
  int reports = 0;
  struct Watch {
    Gate* gate;
    int* reports;
  } watch{&gate, &reports};
  const gulong id = g_signal_connect(session, "notify::twcc-stats",
                                     G_CALLBACK(+[](GObject*, GParamSpec*, gpointer d) {
                                       auto* w = static_cast<Watch*>(d);
                                       w->gate->update([w] { ++*w->reports; });
                                     }),
                                     &watch);
  EXPECT_TRUE(gate.wait([&] { return reports > 1; }));
  g_signal_handler_disconnect(session, id);
  g_object_unref(session);
  gst_object_unref(rtpbin);
}

TEST(PeerPull, HoldsAPadUntilItIsResumed) {
  WebrtcSfu sfu;
  Client client(false);
  sfu.add_sender(kPullAudio, audio_feed(4343));
  client.remote(true, like_pion(sfu.offer()));
  sfu.accept(client.answer());
  ASSERT_TRUE(client.connected());
  ASSERT_TRUE(client.got_pad());
  EXPECT_EQ(client.packets("1"), 0u);
  GstPad* pad = gst_element_get_static_pad(client.bin(), "src_0");
  client.worker().call([&] { client.peer().resume(pad); });
  gst_object_unref(pad);
  EXPECT_TRUE(client.got("1"));
}

TEST(PeerConnection, FailsWhenTheCertificateIsNotTheAnnouncedOne) {
  WebrtcSfu sfu;
  Client client;
  std::string answer = like_pion(sfu.answer(client.offer({Client::track(1, "v", kVideo)}).sdp));
  const size_t at = answer.find("sha-256 ") + 8;
  answer[at] = answer[at] == 'A' ? 'B' : 'A';
  client.remote(false, answer);
  EXPECT_TRUE(client.failed());
}

TEST(PeerConnection, ComesAboutOverASlowPath) {
  WebrtcSfu sfu;
  Client client;
  std::string offer = client.offer({Client::track(1, "v", kVideo)}).sdp;
  for (size_t at; (at = offer.find("a=candidate")) != std::string::npos;)
    offer.erase(at, offer.find('\n', at) + 1 - at);  // the SFU shall not find the short way
  std::string answer = like_pion(sfu.answer(offer));
  const size_t port = answer.find("127.0.0.1 ", answer.find("a=candidate")) + 10;
  const std::string direct = answer.substr(port, answer.find(' ', port) - port);
  test::SlowPath path(std::stoi(direct), 200);
  answer = replaced(answer, "127.0.0.1 " + direct + " ",
                    "127.0.0.1 " + std::to_string(path.port()) + " ");
  client.remote(false, answer);
  EXPECT_TRUE(client.connected());
  client.stop();
}

TEST(PeerConnection, TellsTheCandidatePairInUse) {
  WebrtcSfu sfu;
  Client client;
  client.remote(false, like_pion(sfu.answer(client.offer({Client::track(1, "v", kVideo)}).sdp)));
  ASSERT_TRUE(client.connected());
  auto pair = client.run<Peer::CandidatePair>(
      [](Peer& peer, Peer::Callback<Peer::CandidatePair> done) { peer.candidate_pair(done); });
  ASSERT_TRUE(pair && *pair);
  EXPECT_EQ((*pair)->local_address.substr(0, 10), "127.0.0.1:");
  EXPECT_EQ((*pair)->remote_address.substr(0, 10), "127.0.0.1:");
}

TEST(PeerExchange, AnswersHostileTextWithAnErrorAndStaysUsable) {
  WebrtcSfu sfu;
  Client client;
  const Peer::Offer offer = client.offer({Client::track(1, "v", kVideo)});
  const std::string answer = like_pion(sfu.answer(offer.sdp));
  for (const std::string& text :
       {std::string(), std::string("hello"), answer.substr(0, answer.size() / 4),
        std::string(300 * 1024, 'a'), std::string("v=0\r\n\0\r\n", 9)}) {
    auto result = client.try_remote(false, text);
    ASSERT_TRUE(result && !*result);
    EXPECT_EQ(result->error().kind, ErrorKind::protocol);
    EXPECT_FALSE(result->error().message.empty());
  }
  client.remote(false, answer);
  EXPECT_TRUE(client.connected());
}

size_t count_entries(const char* path) {
  size_t count = 0;
  if (DIR* dir = opendir(path)) {
    while (readdir(dir)) count++;
    closedir(dir);
  }
  return count;
}

TEST(PeerTeardown, CanBeClosedAtEachStage) {
  for (int stage = 0; stage < 7; stage++) {
    SCOPED_TRACE(stage);
    WebrtcSfu sfu;
    auto client = std::make_unique<Client>();
    bool called_late = false;
    const auto track = Client::track(1, "v", kVideo);
    if (stage == 0) {         // nothing yet
    } else if (stage == 1) {  // create-offer under way
      client->worker().call([&] {
        client->peer().create_offer({track}, [&](Result<Peer::Offer>) { called_late = true; });
        client->peer().close();
      });
    } else {
      const Peer::Offer offer = client->offer({track});
      if (stage >= 3) {
        const std::string answer = like_pion(sfu.answer(offer.sdp));
        if (stage == 3) {
          client->worker().call([&] {
            client->peer().set_remote(false, answer,
                                      [&](Result<Peer::RemoteResult>) { called_late = true; });
            client->peer().close();
          });
        } else {
          client->remote(false, answer);
          if (stage >= 5) {
            EXPECT_TRUE(client->connected());
          }
          if (stage >= 6) {
            client->send(1, video_feed(96, 1111));
            EXPECT_TRUE(sfu.wait_for_packets("VP8", 3));
          }
        }
      }
    }
    client.reset();
    EXPECT_FALSE(called_late);
  }
}

TEST(PeerTeardown, LeaksNeitherThreadsNorDescriptors) {
  size_t threads = 0, descriptors = 0;
  for (int cycle = 0; cycle < 50; cycle++) {
    {
      WebrtcSfu sfu;
      Client client;
      client.remote(false,
                    like_pion(sfu.answer(client.offer({Client::track(1, "v", kVideo)}).sdp)));
      ASSERT_TRUE(client.connected());
    }
    if (cycle == 9) {
      threads = count_entries("/proc/self/task");
      descriptors = count_entries("/proc/self/fd");
    }
  }
  // 40 cycles lie between; the pools of GLib and GStreamer come and go by a few
  EXPECT_LE(count_entries("/proc/self/task"), threads + 8);
  EXPECT_LE(count_entries("/proc/self/fd"), descriptors + 8);
}

TEST(DtlsWarmUp, IsCheapToCallAgain) {
  warm_up_dtls();
  const gint64 before = g_get_monotonic_time();
  for (int i = 0; i < 1000; i++) warm_up_dtls();
  EXPECT_LT(g_get_monotonic_time() - before, 100000);
}

}  // namespace
}  // namespace cfr
