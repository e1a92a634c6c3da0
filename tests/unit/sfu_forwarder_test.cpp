#include "sfu/forwarder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

#include "sfu/rtcp.h"

namespace cfr::sfu {
namespace {

using Buffer = std::vector<uint8_t>;

constexpr int64_t kMs = 1000, kSecond = 1000 * kMs;
constexpr int64_t kWall = 1700000000 * kSecond;  // of the forwarder's time zero
constexpr uint32_t kSsrc = 1111, kRtxSsrc = 1112, kPullSsrc = 9001, kPullRtx = 9002;

struct Outgoing : Forwarder::Output {
  struct Packet {
    std::string session;
    Buffer bytes;
    RtpPacket rtp() const { return *RtpPacket::parse(bytes); }
  };
  void send_rtp(const std::string& session, Bytes packet) override {
    ASSERT_TRUE(RtpPacket::parse(packet));
    rtp.push_back({session, {packet.begin(), packet.end()}});
  }
  void send_rtcp(const std::string& session, Bytes packet) override {
    rtcp.push_back({session, {packet.begin(), packet.end()}});
  }
  void media_started(const TrackAddress& track) override { started.push_back(track); }
  RtcpContent said_to(const std::string& session) const {
    Buffer all;
    for (const Packet& packet : rtcp)
      if (packet.session == session)
        all.insert(all.end(), packet.bytes.begin(), packet.bytes.end());
    return RtcpContent::parse(all);
  }
  std::size_t key_frame_requests(const std::string& session) const {
    return said_to(session).key_frame_requests.size();
  }
  std::vector<Packet> rtp, rtcp;
  std::vector<TrackAddress> started;
};

MediaCodec codec(const char* name, int payload_type, int rtx = -1, const char* fmtp = "") {
  MediaCodec codec;
  codec.name = name;
  codec.payload_type = payload_type;
  codec.rtx_payload_type = rtx;
  codec.fmtp = fmtp;
  codec.nack = codec.pli = codec.transport_cc = true;
  return codec;
}

MediaSection section(const char* mid, const char* kind, std::vector<MediaCodec> codecs) {
  MediaSection section;
  section.mid = mid;
  section.kind = kind;
  section.codecs = std::move(codecs);
  return section;
}

struct Packet {
  uint16_t sequence = 0;
  uint32_t timestamp = 0, ssrc = kSsrc;
  int payload_type = 96;
  std::string payload = "\x10\x01payload";  // VP8, not a key frame
  std::vector<std::pair<int, std::string>> extensions;
  int original_sequence = -1;
  bool marker = false;
};

Buffer bytes_of(const std::string& text) {
  return {text.begin(), text.end()};
}

Buffer write(const Packet& p) {
  RtpPacket packet;
  Buffer payload = bytes_of(p.payload), out;
  packet.marker = p.marker;
  packet.sequence = p.sequence;
  packet.timestamp = p.timestamp;
  packet.ssrc = p.ssrc;
  packet.payload_type = p.payload_type;
  packet.payload = payload;
  std::vector<Buffer> values;
  for (auto& [id, value] : p.extensions) values.push_back(bytes_of(value));
  std::vector<HeaderExtension> extensions;
  for (std::size_t i = 0; i < values.size(); ++i)
    extensions.push_back({p.extensions[i].first, values[i]});
  write_packet(out, packet, extensions, p.original_sequence);
  return out;
}

std::string string(Bytes bytes) {
  return {bytes.begin(), bytes.end()};
}

const std::string kKeyFrame("\x10\x00key", 5), kDelta("\x10\x01d", 3);

class SfuForwarder : public testing::Test {
 protected:
  void receive(const Packet& packet, const std::string& session = "pub") {
    forwarder.on_rtp(session, write(packet), now);
  }
  void receive_rtcp(const std::string& session, const Buffer& packet) {
    forwarder.on_rtcp(session, packet, now);
  }
  void publish(MediaSection what, const std::string& session = "pub") {
    TrackAddress track{session, what.mid};
    forwarder.set_ingress(track, what);
    forwarder.set_connected(session, true, now);
  }
  void publish_video() {
    MediaSection video = section("0", "video", {codec("VP8", 96, 97)});
    video.ssrcs = {{kSsrc, kRtxSsrc}};
    publish(video);
  }
  void pull(MediaSection how, const TrackAddress& source = {"pub", "0"},
            const std::string& session = "sub", LayerChoice choice = {}) {
    SsrcPair ssrcs{kPullSsrc, how.kind == "video" ? kPullRtx : 0};
    forwarder.set_egress({session, how.mid}, source, how, ssrcs, "cname", choice, now);
    forwarder.set_connected(session, true, now);
  }
  void pull_video() { pull(section("5", "video", {codec("VP8", 100, 101)})); }
  void pass(int64_t us) {
    for (int64_t end = now + us; now < end;) {
      now += 10 * kMs;
      forwarder.on_tick(now);
    }
  }
  std::vector<uint16_t> sequences() const {
    std::vector<uint16_t> all;
    for (auto& packet : out.rtp) all.push_back(packet.rtp().sequence);
    return all;
  }

  Outgoing out;
  Forwarder forwarder{out, kWall, 42};
  int64_t now = 1000 * kSecond;
};

// --- forwarding ------------------------------------------------------------------------------

TEST_F(SfuForwarder, WritesThePullersNumbersAndExtensions) {
  MediaSection audio = section("0", "audio", {codec("opus", 111)});
  audio.codecs[0].clock_rate = 48000;
  audio.extensions.mid = 1;
  audio.extensions.audio_level = 2;
  publish(audio);
  MediaSection how = section("17", "audio", {codec("OPUS", 63)});
  how.codecs[0].clock_rate = 48000;
  how.extensions.mid = 4;
  how.extensions.transport_cc = 3;
  how.extensions.abs_send_time = 5;
  how.extensions.audio_level = 7;
  pull(how);
  Packet packet{.sequence = 500, .timestamp = 9000, .payload_type = 111, .payload = "opus data"};
  packet.extensions = {{1, "0"}, {2, "\x9f"}, {9, "secret"}};
  packet.marker = true;
  receive(packet);
  now += 20 * kMs;
  packet.sequence = 501;
  packet.timestamp = 9960;
  receive(packet);
  ASSERT_EQ(out.rtp.size(), 2u);
  RtpPacket first = out.rtp[0].rtp(), second = out.rtp[1].rtp();
  EXPECT_EQ(out.rtp[0].session, "sub");
  EXPECT_EQ(first.payload_type, 63);
  EXPECT_EQ(first.ssrc, kPullSsrc);
  EXPECT_TRUE(first.marker);
  EXPECT_EQ(string(first.payload), "opus data");
  EXPECT_EQ(string(first.find(4)), "17");
  EXPECT_EQ(string(first.find(7)), "\x9f");
  EXPECT_TRUE(first.find(9).empty()) << "what nobody knows is left out";
  EXPECT_EQ(uint16_t(read16(second.find(3).data()) - read16(first.find(3).data())), 1);
  uint32_t time1 = read24(first.find(5).data()), time2 = read24(second.find(5).data());
  EXPECT_NEAR((time2 - time1) / double(1 << 18), 0.020, 0.0001);
  EXPECT_EQ(uint16_t(second.sequence - first.sequence), 1);
  EXPECT_EQ(second.timestamp - first.timestamp, 960u);
  EXPECT_EQ(out.started, (std::vector<TrackAddress>{{"pub", "0"}}));
}

TEST_F(SfuForwarder, UsesTwoByteExtensionsWhenAPullersIdsNeedThem) {
  publish_video();
  MediaSection how = section("0", "video", {codec("VP8", 100)});
  how.extensions.mid = 20;
  pull(how);
  receive({.sequence = 1});
  EXPECT_EQ(out.rtp.at(0).rtp().profile, 0x1000);
  EXPECT_EQ(string(out.rtp.at(0).rtp().find(20)), "0");
}

TEST_F(SfuForwarder, KeepsLossReorderingAndWrapAroundAsTheyAre) {
  publish_video();
  pull_video();
  const std::vector<int> in = {65533, 65534, 0, 65535, 1, 4, 3, 5};
  for (int sequence : in)
    receive({.sequence = uint16_t(sequence), .timestamp = uint32_t(sequence)});
  auto got = sequences();
  ASSERT_EQ(got.size(), in.size());
  for (std::size_t i = 0; i < in.size(); ++i)
    EXPECT_EQ(uint16_t(got[i] - got[0]), uint16_t(in[i] - in[0])) << i;
}

TEST_F(SfuForwarder, ForwardsNoDuplicates) {
  publish_video();
  pull_video();
  for (int sequence : {10, 11, 11, 10, 12, 11}) receive({.sequence = uint16_t(sequence)});
  EXPECT_EQ(out.rtp.size(), 3u);
}

TEST_F(SfuForwarder, ClosesTheGapsOfPaddingLeftOut) {
  publish_video();
  pull_video();
  receive({.sequence = 10});
  receive({.sequence = 11, .payload = ""});
  receive({.sequence = 13});
  receive({.sequence = 14, .payload = ""});
  receive({.sequence = 15});
  receive({.sequence = 12});
  auto got = sequences();
  ASSERT_EQ(got.size(), 4u);
  EXPECT_EQ(uint16_t(got[1] - got[0]), 2) << "12 is missing still";
  EXPECT_EQ(uint16_t(got[2] - got[0]), 3);
  EXPECT_EQ(uint16_t(got[3] - got[0]), 1) << "12 fills its place";
  EXPECT_EQ(forwarder.egress_stats().at(0).padding_dropped, 2u);
}

TEST_F(SfuForwarder, FillsTheNumberOfPaddingThatComesLate) {
  publish_video();
  pull_video();
  receive({.sequence = 10});
  receive({.sequence = 12});
  receive({.sequence = 11, .payload = ""});
  ASSERT_EQ(out.rtp.size(), 3u);
  EXPECT_TRUE(out.rtp[2].rtp().padding_only());
  EXPECT_EQ(uint16_t(out.rtp[2].rtp().sequence - out.rtp[0].rtp().sequence), 1);
}

TEST_F(SfuForwarder, ANewSsrcOfThePublisherGoesOnInTheNumbers) {
  publish_video();
  pull_video();
  receive({.sequence = 10, .timestamp = 1000});
  now += kSecond;
  receive({.sequence = 40000, .timestamp = 77, .ssrc = 2222});
  receive({.sequence = 40001, .timestamp = 3077, .ssrc = 2222});
  ASSERT_EQ(out.rtp.size(), 3u);
  EXPECT_EQ(uint16_t(out.rtp[1].rtp().sequence - out.rtp[0].rtp().sequence), 1);
  EXPECT_EQ(out.rtp[1].rtp().timestamp - out.rtp[0].rtp().timestamp, 90000u);
  EXPECT_EQ(out.rtp[2].rtp().timestamp - out.rtp[1].rtp().timestamp, 3000u);
  EXPECT_EQ(out.rtp[2].rtp().ssrc, kPullSsrc);
}

TEST_F(SfuForwarder, ARestartOfTheNumberingNeedsTwoPacketsInARow) {
  publish_video();
  pull_video();
  receive({.sequence = 10});
  receive({.sequence = 30000});
  receive({.sequence = 11});
  EXPECT_EQ(out.rtp.size(), 2u) << "one stray packet changes nothing";
  receive({.sequence = 30000});
  receive({.sequence = 30001});
  receive({.sequence = 30002});
  auto got = sequences();
  ASSERT_EQ(got.size(), 4u);
  EXPECT_EQ(uint16_t(got[2] - got[1]), 1);
  EXPECT_EQ(uint16_t(got[3] - got[2]), 1);
}

TEST_F(SfuForwarder, AChangeOfTheSourceGoesOnInTheNumbers) {
  publish_video();
  publish(section("0", "video", {codec("VP8", 120)}), "other");
  pull_video();
  receive({.sequence = 10, .timestamp = 5});
  forwarder.set_egress({"sub", "5"}, {"other", "0"}, section("5", "video", {codec("VP8", 100)}),
                       {kPullSsrc, 0}, "cname", {}, now);
  now += 100 * kMs;
  receive({.sequence = 11});
  receive({.sequence = 9, .timestamp = 99, .payload_type = 120}, "other");
  ASSERT_EQ(out.rtp.size(), 2u);
  EXPECT_EQ(uint16_t(out.rtp[1].rtp().sequence - out.rtp[0].rtp().sequence), 1);
  EXPECT_EQ(out.rtp[1].rtp().timestamp - out.rtp[0].rtp().timestamp, 9000u);
}

TEST_F(SfuForwarder, OneSessionMayPullItselfAndSeveralMayPullOne) {
  publish_video();
  pull(section("7", "video", {codec("VP8", 100)}), {"pub", "0"}, "pub");
  pull(section("0", "video", {codec("VP8", 98)}), {"pub", "0"}, "b");
  receive({.sequence = 1});
  pull(section("0", "video", {codec("VP8", 99)}), {"pub", "0"}, "late");
  receive({.sequence = 2});
  EXPECT_EQ(out.rtp.size(), 5u);
  forwarder.remove_session("b");
  forwarder.remove_egress({"pub", "7"});
  receive({.sequence = 3});
  EXPECT_EQ(out.rtp.size(), 6u);
  forwarder.remove_ingress({"pub", "0"});
  receive({.sequence = 4});
  EXPECT_EQ(out.rtp.size(), 6u);
  publish_video();
  receive({.sequence = 5});
  EXPECT_EQ(out.rtp.size(), 7u) << "who waits for the track gets it when it is back";
}

TEST_F(SfuForwarder, NothingGoesToWhomIsNotConnectedOrBlocked) {
  publish_video();
  pull_video();
  forwarder.set_connected("sub", false, now);
  receive({.sequence = 1});
  EXPECT_TRUE(out.rtp.empty());
  forwarder.set_connected("sub", true, now);
  forwarder.set_blocked("sub", true);
  receive({.sequence = 2});
  EXPECT_TRUE(out.rtp.empty());
  forwarder.set_blocked("sub", false);
  forwarder.set_blocked("pub", true);
  receive({.sequence = 3});
  EXPECT_TRUE(out.rtp.empty());
}

// --- whose packet is it ----------------------------------------------------------------------

TEST_F(SfuForwarder, TellsSectionsApartByMidSsrcAndPayloadType) {
  MediaSection a = section("0", "video", {codec("VP8", 96)});
  MediaSection b = section("1", "video", {codec("VP8", 96), codec("H264", 102)});
  MediaSection c = section("2", "video", {codec("VP8", 96)});
  a.extensions.mid = b.extensions.mid = c.extensions.mid = 4;
  c.ssrcs = {{333, 0}};
  for (const MediaSection& each : {a, b, c}) publish(each);
  receive({.sequence = 1, .ssrc = 111, .extensions = {{4, "0"}}});
  receive({.sequence = 2, .ssrc = 111});                       // learnt
  receive({.sequence = 1, .ssrc = 222, .payload_type = 102});  // unique payload type
  receive({.sequence = 1, .ssrc = 333});                       // announced
  receive({.sequence = 1, .ssrc = 444});                       // could be any
  std::map<std::string, uint64_t> packets;
  for (auto& stats : forwarder.ingress_stats()) packets[stats.track.mid] += stats.packets;
  EXPECT_EQ(packets, (std::map<std::string, uint64_t>{{"0", 2}, {"1", 1}, {"2", 1}}));
  EXPECT_EQ(forwarder.session_stats().at(0).unknown_packets, 1u);
  // The MID of a packet outweighs what was learnt.
  receive({.sequence = 3, .ssrc = 111, .extensions = {{4, "1"}}});
  for (auto& stats : forwarder.ingress_stats())
    if (stats.track.mid == "1") {
      EXPECT_EQ(stats.ssrc, 111u);
    }
}

TEST_F(SfuForwarder, ChoosesTheCodecThatFits) {
  publish(section("0", "video",
                  {codec("H264", 96, -1, "packetization-mode=1;profile-level-id=42e01f"),
                   codec("H264", 98, -1, "profile-level-id=640032;packetization-mode=0"),
                   codec("VP9", 100, -1, "profile-id=2"), codec("AV1", 45)}));
  pull(section("0", "video",
               {codec("VP9", 30, -1, "profile-id=0"),
                codec("H264", 31, -1, "packetization-mode=0; profile-level-id=64001f"),
                codec("h264", 32, -1,
                      "level-asymmetry-allowed=1; packetization-mode=1; "
                      "profile-level-id=42e034")}));
  int sequence = 0;
  for (int payload_type : {96, 98, 100, 45, 96})
    receive({.sequence = uint16_t(++sequence), .payload_type = payload_type});
  ASSERT_EQ(out.rtp.size(), 3u);
  EXPECT_EQ(out.rtp[0].rtp().payload_type, 32);
  EXPECT_EQ(out.rtp[1].rtp().payload_type, 31);
  EXPECT_EQ(uint16_t(out.rtp[2].rtp().sequence - out.rtp[0].rtp().sequence), 2);
  EXPECT_EQ(forwarder.egress_stats().at(0).no_codec, 2u) << "VP9 of another profile, and AV1";
}

// --- repair ----------------------------------------------------------------------------------

TEST_F(SfuForwarder, AnswersANackByRtx) {
  publish_video();
  MediaSection how = section("5", "video", {codec("VP8", 100, 101)});
  how.extensions.transport_cc = 3;
  how.extensions.mid = 1;
  pull(how);
  for (int i = 0; i < 10; ++i)
    receive({.sequence = uint16_t(65530 + i),
             .timestamp = uint32_t(i),
             .payload = "\x10\x01" + std::to_string(i)});
  RtpPacket lost = out.rtp[7].rtp();
  Buffer nack;
  append_nack(nack, 5, kPullSsrc, {lost.sequence});
  receive_rtcp("sub", nack);
  ASSERT_EQ(out.rtp.size(), 11u);
  RtpPacket rtx = out.rtp[10].rtp();
  EXPECT_EQ(rtx.ssrc, kPullRtx);
  EXPECT_EQ(rtx.payload_type, 101);
  EXPECT_EQ(rtx.timestamp, lost.timestamp);
  EXPECT_EQ(read16(rtx.payload.data()), lost.sequence);
  EXPECT_EQ(string(rtx.payload.subspan(2)), string(lost.payload));
  EXPECT_EQ(string(rtx.find(1)), "5");
  EXPECT_EQ(read16(rtx.find(3).data()), 10) << "the next transport-wide number";
  receive_rtcp("sub", nack);
  EXPECT_EQ(out.rtp.size(), 11u) << "asked twice at once";
  now += 20 * kMs;
  receive_rtcp("sub", nack);
  ASSERT_EQ(out.rtp.size(), 12u);
  EXPECT_EQ(uint16_t(out.rtp[11].rtp().sequence - rtx.sequence), 1);
  now += 2 * kSecond;
  receive_rtcp("sub", nack);
  EXPECT_EQ(out.rtp.size(), 12u) << "too old";
  EXPECT_EQ(forwarder.egress_stats().at(0).resent, 2u);
}

TEST_F(SfuForwarder, AnswersANackWithoutRtxByThePacketItself) {
  publish_video();
  pull(section("5", "video", {codec("VP8", 100)}));
  receive({.sequence = 1});
  receive({.sequence = 2, .payload = "\x10\x01lost"});
  receive({.sequence = 3});
  Buffer nack;
  append_nack(nack, 5, kPullSsrc,
              {out.rtp[1].rtp().sequence, uint16_t(out.rtp[2].rtp().sequence + 9)});
  receive_rtcp("sub", nack);
  ASSERT_EQ(out.rtp.size(), 4u);
  EXPECT_EQ(out.rtp[3].bytes, out.rtp[1].bytes);
}

TEST_F(SfuForwarder, AsksThePublisherForWhatIsMissingAndTakesRtx) {
  publish_video();
  pull_video();
  receive({.sequence = 65534});
  receive({.sequence = 2});
  pass(10 * kMs);
  auto nacks = out.said_to("pub").nacks;
  ASSERT_EQ(nacks.size(), 1u);
  EXPECT_EQ(nacks[0].ssrc, kSsrc);
  EXPECT_EQ(nacks[0].sequences, (std::vector<uint16_t>{65535, 0, 1}));
  now += 15 * kMs;
  receive({.sequence = 800,
           .ssrc = kRtxSsrc,
           .payload_type = 97,
           .payload = "\x10\x01again",
           .original_sequence = 0});
  ASSERT_EQ(out.rtp.size(), 3u);
  EXPECT_EQ(string(out.rtp[2].rtp().payload), "\x10\x01again");
  EXPECT_EQ(uint16_t(out.rtp[2].rtp().sequence - out.rtp[0].rtp().sequence), 2);
  EXPECT_EQ(out.rtp[2].rtp().ssrc, kPullSsrc);
  receive({.sequence = 801,
           .ssrc = kRtxSsrc,
           .payload_type = 97,
           .payload = "\x10\x01again",
           .original_sequence = 0});
  EXPECT_EQ(out.rtp.size(), 3u) << "repaired twice";
  EXPECT_EQ(forwarder.ingress_stats().at(0).recovered, 1u);
  pass(3 * kSecond);
  std::map<uint16_t, int> asked;
  for (auto& nack : out.said_to("pub").nacks)
    for (uint16_t sequence : nack.sequences) ++asked[sequence];
  EXPECT_EQ(asked.size(), 3u);
  EXPECT_EQ(asked[0], 1);
  EXPECT_GT(asked[1], 3);
  EXPECT_LE(asked[1], 10);
  std::size_t before = out.said_to("pub").nacks.size();
  pass(kSecond);
  EXPECT_EQ(out.said_to("pub").nacks.size(), before) << "it has given up";
}

TEST_F(SfuForwarder, AHugeGapIsNotRepairedButBegunAnew) {
  publish_video();
  pull_video();
  receive({.sequence = 1});
  pass(2 * kSecond);
  std::size_t before = out.key_frame_requests("pub");
  receive({.sequence = 1500});
  pass(100 * kMs);
  EXPECT_TRUE(out.said_to("pub").nacks.empty());
  EXPECT_EQ(out.key_frame_requests("pub"), before + 1);
}

TEST_F(SfuForwarder, AsksNothingOfCodecsWithoutNack) {
  MediaSection video = section("0", "video", {codec("VP8", 96)});
  video.codecs[0].nack = false;
  publish(video);
  receive({.sequence = 1});
  receive({.sequence = 5});
  pass(200 * kMs);
  EXPECT_TRUE(out.said_to("pub").nacks.empty());
}

// --- key frames ------------------------------------------------------------------------------

TEST_F(SfuForwarder, RequestsAreAtMostOneASecondAndNoneIsLost) {
  publish_video();
  receive({.sequence = 1});
  EXPECT_EQ(out.key_frame_requests("pub"), 0u) << "nobody looks";
  pull_video();
  EXPECT_EQ(out.key_frame_requests("pub"), 1u) << "a puller joins";
  Buffer pli;
  append_pli(pli, 5, kPullSsrc);
  pass(300 * kMs);
  receive_rtcp("sub", pli);
  receive_rtcp("sub", pli);
  EXPECT_EQ(out.key_frame_requests("pub"), 1u);
  pass(600 * kMs);
  EXPECT_EQ(out.key_frame_requests("pub"), 1u);
  pass(200 * kMs);
  EXPECT_EQ(out.key_frame_requests("pub"), 2u) << "when the second is over";
  EXPECT_EQ(out.said_to("pub").key_frame_requests.back(), kSsrc);
  pass(3 * kSecond);
  EXPECT_EQ(out.key_frame_requests("pub"), 2u);
  Buffer fir;
  append_fir(fir, 5, kPullSsrc, 1);
  receive_rtcp("sub", fir);
  EXPECT_EQ(out.key_frame_requests("pub"), 3u);
  receive_rtcp("sub", pli);
  receive({.sequence = 2, .payload = kKeyFrame});
  pass(2 * kSecond);
  EXPECT_EQ(out.key_frame_requests("pub"), 3u) << "the key frame came in the meantime";
  EXPECT_EQ(forwarder.egress_stats().at(0).key_frame_requests, 4u);
}

TEST_F(SfuForwarder, APullerBeforeThePublisherAsksWhenMediaComes) {
  pull_video();
  publish_video();
  EXPECT_EQ(out.key_frame_requests("pub"), 0u);
  receive({.sequence = 1, .payload = kDelta});
  EXPECT_EQ(out.key_frame_requests("pub"), 1u);
}

TEST_F(SfuForwarder, UsesFirWhereThePublisherKnowsNoPli) {
  MediaSection video = section("0", "video", {codec("VP8", 96)});
  video.codecs[0].pli = false;
  video.codecs[0].fir = true;
  publish(video);
  receive({.sequence = 1});
  pull_video();
  ASSERT_FALSE(out.rtcp.empty());
  const Buffer& bytes = out.rtcp.back().bytes;
  EXPECT_EQ(bytes[bytes.size() - 20], 0x84) << "FIR";
  EXPECT_EQ(out.key_frame_requests("pub"), 1u);
}

// --- layers ----------------------------------------------------------------------------------

class SfuSimulcast : public SfuForwarder {
 protected:
  void SetUp() override {
    MediaSection video = section("0", "video", {codec("VP8", 96, 97)});
    video.rids = {"f", "h", "q"};
    video.extensions.mid = 1;
    video.extensions.rid = 2;
    video.extensions.repaired_rid = 3;
    publish(video);
  }
  void frame(const char* rid, const std::string& payload = kDelta) {
    Packet packet{.sequence = ++sequence[*rid],
                  .timestamp = uint32_t(now / 1000 * 90),
                  .ssrc = uint32_t(*rid),
                  .payload = payload};
    if (packet.sequence < 5) packet.extensions = {{1, "0"}, {2, rid}};
    receive(packet);
  }
  void frames(const std::string& rids, const std::string& payload = kDelta) {
    now += 33 * kMs;
    for (char rid : rids) frame(std::string(1, rid).c_str(), payload);
    forwarder.on_tick(now);
  }
  std::string layer() { return forwarder.egress_stats().at(0).rid; }
  std::map<char, uint16_t> sequence;
};

TEST_F(SfuSimulcast, SwitchesAtAKeyFrameAndGoesOnInTheNumbers) {
  for (int i = 0; i < 5; ++i) frames("fhq", kKeyFrame);
  pull(section("0", "video", {codec("VP8", 100)}), {"pub", "0"}, "sub", {"h", false});
  for (int i = 0; i < 3; ++i) frames("fhq");
  EXPECT_EQ(layer(), "h");
  EXPECT_EQ(out.rtp.size(), 3u);
  std::size_t asked = out.key_frame_requests("pub");
  forwarder.set_choice({"sub", "0"}, {"q", false}, now);
  pass(kSecond);
  for (int i = 0; i < 3; ++i) frames("fhq");
  EXPECT_EQ(layer(), "h") << "not before the key frame";
  EXPECT_GT(out.key_frame_requests("pub"), asked);
  EXPECT_EQ(out.said_to("pub").key_frame_requests.back(), uint32_t('q'));
  frames("fhq", kKeyFrame);
  EXPECT_EQ(layer(), "q");
  for (int i = 0; i < 3; ++i) frames("fhq");
  auto got = sequences();
  for (std::size_t i = 1; i < got.size(); ++i) EXPECT_EQ(uint16_t(got[i] - got[i - 1]), 1) << i;
  for (std::size_t i = 1; i < out.rtp.size(); ++i)
    EXPECT_GT(int32_t(out.rtp[i].rtp().timestamp - out.rtp[i - 1].rtp().timestamp), 0);
}

TEST_F(SfuSimulcast, TakesTheNextLayerOnlyIfAllowed) {
  for (int i = 0; i < 5; ++i) frames("fhq", kKeyFrame);
  pull(section("0", "video", {codec("VP8", 100)}), {"pub", "0"}, "sub", {"h", false});
  pull(section("0", "video", {codec("VP8", 100)}), {"pub", "0"}, "other", {"h", true});
  frames("fhq");
  auto sent_to = [&](const char* session) {
    return std::count_if(out.rtp.begin(), out.rtp.end(),
                         [&](auto& packet) { return packet.session == session; });
  };
  EXPECT_EQ(sent_to("sub"), 1);
  for (int i = 0; i < 100; ++i) frames("fq");
  frames("fq", kKeyFrame);
  frames("fq");
  EXPECT_EQ(sent_to("sub"), 1);
  EXPECT_GE(sent_to("other"), 3);
  for (auto& stats : forwarder.egress_stats())
    if (stats.puller.session == "other") {
      EXPECT_EQ(stats.rid, "q");
    }
}

TEST_F(SfuSimulcast, TakesTheFirstLayerByDefaultAndRepairsByRid) {
  for (int i = 0; i < 3; ++i) frames("qhf", kKeyFrame);
  pull(section("0", "video", {codec("VP8", 100)}));
  frames("qhf", kKeyFrame);
  EXPECT_EQ(layer(), "f");
  uint16_t lost = ++sequence['f'];
  frames("f");
  std::size_t before = out.rtp.size();
  receive({.sequence = 1,
           .ssrc = 777,
           .payload_type = 97,
           .payload = "\x10\x01r",
           .extensions = {{1, "0"}, {3, "f"}},
           .original_sequence = lost});
  EXPECT_EQ(out.rtp.size(), before + 1);
}

TEST_F(SfuSimulcast, AnEndedLayerIsLeft) {
  for (int i = 0; i < 5; ++i) frames("fq", kKeyFrame);
  pull(section("0", "video", {codec("VP8", 100)}));
  frames("fq");
  EXPECT_EQ(layer(), "f");
  receive_rtcp("pub", {0x81, 203, 0, 1, 0, 0, 0, 'f'});
  frames("q", kKeyFrame);
  EXPECT_EQ(layer(), "q");
}

// --- reports ---------------------------------------------------------------------------------

TEST_F(SfuForwarder, ReportsLossAndTimesToThePublisher) {
  publish_video();
  pass(kSecond);
  out.rtcp.clear();
  for (int i = 0; i < 100; ++i)
    if (i % 4 != 3)
      receive({.sequence = uint16_t(65500 + i), .timestamp = uint32_t(i * 900)}), now += 10 * kMs;
  Buffer report;
  append_sender_report(report, kSsrc, {0x0000aaaabbbb0000ull, 1, 2, 3});
  receive_rtcp("pub", report);
  pass(1500 * kMs);
  auto blocks = out.said_to("pub").reports;
  ASSERT_FALSE(blocks.empty());
  EXPECT_EQ(blocks[0].ssrc, kSsrc);
  EXPECT_EQ(blocks[0].highest, 65500u + 98);
  EXPECT_EQ(blocks[0].lost, 24);
  EXPECT_NEAR(blocks[0].fraction_lost, 62, 1);
  EXPECT_EQ(blocks[0].last_sr, 0xaaaabbbbu);
  EXPECT_LT(blocks[0].delay_since_sr, 65536u * 2);
  EXPECT_GT(blocks[0].jitter, 0u);
  EXPECT_EQ(forwarder.ingress_stats().at(0).lost, 24);
  if (blocks.size() > 1) {
    EXPECT_EQ(blocks[1].fraction_lost, 0) << "of the interval";
  }
}

TEST_F(SfuForwarder, FeedsTransportWideArrivalsBack) {
  MediaSection video = section("0", "video", {codec("VP8", 96)});
  video.extensions.transport_cc = 5;
  publish(video);
  for (int i = 0; i < 50; ++i) {
    std::string counter{char(0), char(i)};
    if (i % 10 != 9) receive({.sequence = uint16_t(i), .extensions = {{5, counter}}});
    pass(10 * kMs);
  }
  std::size_t received = 0, lost = 0;
  for (auto& feedback : out.said_to("pub").transport_feedback)
    for (auto& arrival : feedback.arrivals) ++(arrival.received ? received : lost);
  EXPECT_GE(received, 40u);
  EXPECT_GE(lost, 4u);
  EXPECT_GE(out.said_to("pub").transport_feedback.size(), 5u);
}

TEST_F(SfuForwarder, FeedsBackWhatBelongsToNoTrack) {
  MediaSection video = section("0", "video", {codec("VP8", 96)});
  video.extensions.transport_cc = 5;
  video.ssrcs = {{kSsrc, 0}};
  publish(video);
  for (int i = 0; i < 50; ++i) {
    std::string counter{char(0), char(i)};
    bool other = i % 2;  // of a section that was negotiated, but is no track yet
    receive({.sequence = uint16_t(i),
             .ssrc = other ? 77 : kSsrc,
             .payload_type = other ? 98 : 96,
             .extensions = {{5, counter}}});
    pass(10 * kMs);
  }
  std::size_t received = 0, lost = 0;
  for (auto& feedback : out.said_to("pub").transport_feedback)
    for (auto& arrival : feedback.arrivals) ++(arrival.received ? received : lost);
  EXPECT_GE(received, 45u);
  EXPECT_EQ(lost, 0u);
  EXPECT_EQ(forwarder.session_stats().at(0).unknown_packets, 25u);
}

TEST_F(SfuForwarder, SenderReportsFollowThePublishersClock) {
  // The publisher's clock is an hour behind; its audio and video are sampled at one moment but
  // the video takes 80 ms longer to arrive.
  MediaSection video = section("0", "video", {codec("VP8", 96)});
  MediaSection audio = section("1", "audio", {codec("opus", 111)});
  audio.codecs[0].clock_rate = 48000;
  publish(video);
  publish(audio);
  pull(section("0", "video", {codec("VP8", 100)}));
  forwarder.set_egress({"sub", "1"}, {"pub", "1"}, audio, {kPullSsrc + 10, 0}, "cname", {}, now);
  const int64_t start = now;
  auto publisher_clock = [&](int64_t at) { return at + kWall - 3600 * kSecond; };
  for (int i = 0; i < 150; ++i) {
    now = start + i * 20 * kMs;
    receive({.sequence = uint16_t(i),
             .timestamp = 5000 + uint32_t(i) * 960,
             .ssrc = 50,
             .payload_type = 111,
             .payload = "a"});
    now += 80 * kMs;
    receive({.sequence = uint16_t(i), .timestamp = 7000 + uint32_t(i) * 1800, .ssrc = 60});
    if (i == 60) {
      Buffer reports;
      append_sender_report(reports, 50, {ntp_from_unix_us(publisher_clock(start)), 5000, 1, 1});
      append_sender_report(reports, 60, {ntp_from_unix_us(publisher_clock(start)), 7000, 1, 1});
      receive_rtcp("pub", reports);
    }
    forwarder.on_tick(now);
  }
  // In what goes out: which timestamps belong to one moment?
  std::map<uint32_t, RtcpSenderInfo> last;
  for (auto& report : out.said_to("sub").sender_reports) last[report.ssrc] = report.info;
  ASSERT_EQ(last.size(), 2u);
  std::map<uint32_t, uint32_t> first;  // timestamps of the first packets
  for (auto& packet : out.rtp) first.try_emplace(packet.rtp().ssrc, packet.rtp().timestamp);
  auto moment = [&](uint32_t ssrc, int rate) {
    return unix_us_from_ntp(last[ssrc].ntp) -
           int64_t(int32_t(last[ssrc].rtp - first[ssrc])) * kSecond / rate;
  };
  EXPECT_NEAR(double(moment(kPullSsrc, 90000)), double(moment(kPullSsrc + 10, 48000)), 100);
  EXPECT_NEAR(double(unix_us_from_ntp(last[kPullSsrc].ntp)), double(kWall + now), 1.1 * kSecond);
  EXPECT_GT(last[kPullSsrc].packets, 90u);
}

TEST_F(SfuForwarder, SenderReportsGoByArrivalBeforeThePublishersFirst) {
  publish_video();
  pull_video();
  for (int i = 0; i < 100; ++i) {
    receive({.sequence = uint16_t(i), .timestamp = uint32_t(i) * 1800});
    pass(20 * kMs);
  }
  auto reports = out.said_to("sub").sender_reports;
  ASSERT_GE(reports.size(), 1u);
  EXPECT_EQ(reports.back().ssrc, kPullSsrc);
  int64_t at = unix_us_from_ntp(reports.back().info.ntp) - kWall - 1000 * kSecond;
  EXPECT_NEAR(double(reports.back().info.rtp - out.rtp[0].rtp().timestamp), at * 0.09, 90);
  // compound: the report, then the name
  for (auto& packet : out.rtcp)
    if (packet.session == "sub" && packet.bytes[1] == 200) {
      EXPECT_NE(string(packet.bytes).find("cname"), std::string::npos);
    }
}

TEST_F(SfuForwarder, LearnsOfThePullersLossAndRoundTrip) {
  publish_video();
  pull_video();
  receive({.sequence = 1});
  RtcpReportBlock block;
  block.ssrc = kPullSsrc;
  block.fraction_lost = 64;
  block.lost = 7;
  block.last_sr = uint32_t(ntp_from_unix_us(now + kWall) >> 16);
  block.delay_since_sr = 65536 / 10;
  now += 150 * kMs;
  Buffer report;
  append_receiver_report(report, 5, {block});
  receive_rtcp("sub", report);
  auto stats = forwarder.egress_stats().at(0);
  EXPECT_EQ(stats.fraction_lost, 0.25);
  EXPECT_EQ(stats.lost, 7);
  EXPECT_NEAR(stats.rtt_ms, 50, 1);
}

TEST_F(SfuForwarder, SignsOfLifeNeedNoMedia) {
  publish_video();
  now += 5 * kSecond;
  forwarder.heard("pub", now);
  EXPECT_EQ(forwarder.last_heard_us("pub"), now);
  EXPECT_FALSE(forwarder.has_media({"pub", "0"}));
  EXPECT_EQ(forwarder.last_heard_us("nobody"), 0);
}

// --- strangers -------------------------------------------------------------------------------

// Random packets, RTCP and changes in random order: nothing breaks, and what comes out is
// well-formed.
TEST_F(SfuForwarder, SurvivesWhateverComes) {
  std::mt19937 random(2024);
  auto pick = [&](int n) { return int(random() % unsigned(n)); };
  const char* sessions[] = {"a", "b", "c"};
  const char* codecs[] = {"VP8", "VP9", "H264", "H265", "AV1", "opus"};
  for (int i = 0; i < 60000; ++i) {
    std::string session = sessions[pick(3)], other = sessions[pick(3)];
    std::string mid = std::to_string(pick(3)), other_mid = std::to_string(10 + pick(3));
    now += pick(3) * kMs;
    switch (pick(40)) {
      case 0: {
        MediaSection what = section(mid.c_str(), pick(2) ? "video" : "audio",
                                    {codec(codecs[pick(6)], 96, 97), codec(codecs[pick(6)], 98)});
        what.extensions = {pick(16), pick(16), pick(16), pick(16), pick(300), pick(16)};
        what.codecs[0].clock_rate = pick(2) ? 48000 : 90000;
        if (pick(2)) what.ssrcs = {{uint32_t(pick(8)), uint32_t(pick(8))}};
        if (pick(2)) what.rids = {"a", "b"};
        publish(what, session);
        break;
      }
      case 1: {
        MediaSection how = section(other_mid.c_str(), pick(2) ? "video" : "audio",
                                   {codec(codecs[pick(6)], 100, 101)});
        how.extensions = {pick(16), 0, 0, pick(300), pick(16), pick(16)};
        pull(how, {other, mid}, session, {pick(2) ? "a" : "", pick(2) == 0});
        break;
      }
      case 2:
        if (pick(4) == 0) forwarder.remove_session(session);
        break;
      case 3: forwarder.remove_ingress({session, mid}); break;
      case 4: forwarder.remove_egress({session, other_mid}); break;
      case 5: forwarder.set_connected(session, pick(4) != 0, now); break;
      case 6: forwarder.on_tick(now); break;
      case 7: forwarder.set_choice({session, other_mid}, {"b", true}, now); break;
      case 8:
      case 9:
      case 10: {
        Buffer rtcp;
        append_nack(rtcp, 1, pick(2) ? kPullSsrc : uint32_t(pick(8)),
                    {uint16_t(random()), uint16_t(random())});
        append_pli(rtcp, 1, kPullSsrc);
        append_sender_report(rtcp, uint32_t(pick(8)),
                             {uint64_t(random()) << 32 | random(), uint32_t(random()), 0, 0});
        for (int n = pick(4); n > 0; --n)
          rtcp[std::size_t(pick(int(rtcp.size())))] = uint8_t(random());
        rtcp.resize(std::size_t(pick(int(rtcp.size()) + 1)));
        receive_rtcp(session, rtcp);
        break;
      }
      case 11:
      case 12: {
        Buffer garbage(std::size_t(pick(64)));
        for (uint8_t& byte : garbage) byte = uint8_t(random());
        if (!garbage.empty()) garbage[0] = uint8_t(0x80 | (garbage[0] & 0x3f));
        forwarder.on_rtp(session, garbage, now);
        forwarder.on_rtcp(session, garbage, now);
        break;
      }
      default: {
        Packet packet;
        packet.sequence = pick(50) ? uint16_t(i / 20 + pick(30)) : uint16_t(random());
        packet.timestamp = uint32_t(random());
        packet.ssrc = uint32_t(pick(8));
        packet.payload_type = 96 + pick(3);
        packet.payload = std::string(std::size_t(pick(20)), char(random()));
        packet.extensions = {
            {1 + pick(15), mid}, {1 + pick(15), pick(2) ? "a" : "b"}, {1 + pick(15), "xx"}};
        if (pick(5) == 0) packet.original_sequence = uint16_t(random());
        receive(packet, session);
      }
    }
    if (out.rtcp.size() > 1000) out.rtcp.clear();
    if (out.rtp.size() > 1000) out.rtp.clear();
  }
}

}  // namespace
}  // namespace cfr::sfu
