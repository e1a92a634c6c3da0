#include "sfu/packet.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "sfu/keyframe.h"
#include "sfu/packet_cache.h"
#include "sfu/rtcp.h"

namespace cfr::sfu {
namespace {

using Buffer = std::vector<uint8_t>;

Buffer text(const char* s) {
  return Buffer(s, s + std::char_traits<char>::length(s));
}
std::string text_of(Bytes bytes) {
  return {bytes.begin(), bytes.end()};
}

TEST(RtpPacket, ReadsWhatAPacketSays) {
  const Buffer data = {
      0x91, 0xe0, 0x12, 0x34, 0,    0,    1, 0,     // V2 X CC=1, M, PT 96
      0xde, 0xad, 0xbe, 0xef, 1,    2,    3, 4,     // SSRC, CSRC
      0xbe, 0xde, 0,    2,    0x10, 0x37, 0, 0x31,  // id 1: "7", padding, id 3: 2 bytes
      0xaa, 0xbb, 0,    0,    'h',  'i'};
  auto packet = RtpPacket::parse(data);
  ASSERT_TRUE(packet);
  EXPECT_TRUE(packet->marker);
  EXPECT_EQ(packet->payload_type, 96);
  EXPECT_EQ(packet->sequence, 0x1234);
  EXPECT_EQ(packet->timestamp, 256u);
  EXPECT_EQ(packet->ssrc, 0xdeadbeefu);
  EXPECT_EQ(text_of(packet->find(1)), "7");
  EXPECT_EQ(packet->find(3).size(), 2u);
  EXPECT_TRUE(packet->find(2).empty());
  EXPECT_TRUE(packet->find(0).empty());
  EXPECT_EQ(text_of(packet->payload), "hi");
}

TEST(RtpPacket, ReadsTwoByteExtensions) {
  const Buffer data = {0x90, 96, 0, 1,   0,   0,   0, 1, 0, 0, 0, 1,   0x10, 0x00, 0,
                       3,    20, 3, 'a', 'b', 'c', 0, 7, 0, 9, 1, 'x', 0,    'p'};
  auto packet = RtpPacket::parse(data);
  ASSERT_TRUE(packet);
  EXPECT_EQ(text_of(packet->find(20)), "abc");
  EXPECT_TRUE(packet->find(7).empty()) << "present, of no length";
  EXPECT_EQ(text_of(packet->find(9)), "x");
  EXPECT_EQ(text_of(packet->payload), "p");
}

TEST(RtpPacket, TakesPaddingAway) {
  Buffer data = {0xa0, 96, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 'x', 0, 0, 3};
  EXPECT_EQ(text_of(RtpPacket::parse(data)->payload), "x");
  data.back() = 4;
  EXPECT_TRUE(RtpPacket::parse(data)->padding_only());
  data.back() = 5;
  EXPECT_FALSE(RtpPacket::parse(data)) << "more padding than packet";
  data.back() = 0;
  EXPECT_FALSE(RtpPacket::parse(data)) << "RFC 3550: the count includes itself";
}

TEST(RtpPacket, RefusesWhatIsCut) {
  const Buffer whole = {0x91, 96, 0, 1, 0,    0,    0, 1, 0,    0, 0, 1,
                        1,    2,  3, 4, 0xbe, 0xde, 0, 1, 0x10, 1, 0, 0};
  ASSERT_TRUE(RtpPacket::parse(whole));
  for (std::size_t n = 0; n < whole.size(); ++n)
    EXPECT_FALSE(RtpPacket::parse(Bytes(whole).first(n))) << n;
  Buffer many = whole;
  many[0] = 0x9f;  // fifteen CSRCs
  EXPECT_FALSE(RtpPacket::parse(many));
  Buffer version = whole;
  version[0] = 0x51;
  EXPECT_FALSE(RtpPacket::parse(version));
}

TEST(RtpPacket, AnExtensionThatOverrunsItsBlockIsNotFound) {
  const Buffer data = {0x90, 96, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0xbe, 0xde, 0, 1, 0x1f, 1, 2, 3, 9};
  auto packet = RtpPacket::parse(data);
  ASSERT_TRUE(packet);
  EXPECT_TRUE(packet->find(1).empty());
}

TEST(WritePacket, UsesShortExtensionsWhileTheyDo) {
  RtpPacket packet;
  packet.payload_type = 100;
  packet.sequence = 7;
  packet.timestamp = 9;
  packet.ssrc = 11;
  packet.marker = true;
  Buffer payload = text("data"), mid = text("12"), long_mid = text("a-name-of-more-than-16-bytes");
  packet.payload = payload;
  Buffer out;
  write_packet(out, packet, std::vector<HeaderExtension>{{3, mid}, {14, mid}, {5, {}}});
  auto read = RtpPacket::parse(out);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->profile, 0xbede);
  EXPECT_EQ(text_of(read->find(3)), "12");
  EXPECT_EQ(text_of(read->find(14)), "12");
  EXPECT_EQ(text_of(read->payload), "data");
  EXPECT_TRUE(read->marker);
  EXPECT_EQ(read->ssrc, 11u);
  for (int id : {3, 15, 255}) {
    write_packet(out, packet, std::vector<HeaderExtension>{{id, id == 3 ? long_mid : mid}});
    read = RtpPacket::parse(out);
    EXPECT_EQ(read->profile, 0x1000);
    EXPECT_EQ(text_of(read->find(id)), id == 3 ? text_of(long_mid) : "12");
  }
  write_packet(out, packet, {}, 0xabcd);
  read = RtpPacket::parse(out);
  EXPECT_EQ(read->profile, 0);
  EXPECT_EQ(read16(read->payload.data()), 0xabcd);
  packet.payload = {};
  write_packet(out, packet, {});
  EXPECT_TRUE(RtpPacket::parse(out)->padding_only());
}

TEST(Rtcp, ReadsReportsAndRequestsOfACompound) {
  Buffer out;
  append_sender_report(out, 1, {0x1122334455667788, 90, 5, 600});
  RtcpReportBlock block{77, 64, -3, 70000, 12, 0xaabb, 0xccdd};
  append_receiver_report(out, 1, {block});
  append_cname(out, 1, "name");
  append_nack(out, 1, 77, {65534, 65535, 0, 16, 40});
  append_pli(out, 1, 78);
  append_fir(out, 1, 79, 4);
  out.insert(out.end(), {0x81, 203, 0, 1, 0, 0, 0, 99});  // BYE
  ASSERT_EQ(out.size() % 4, 0u);
  RtcpContent content = RtcpContent::parse(out);
  ASSERT_EQ(content.sender_reports.size(), 1u);
  EXPECT_EQ(content.sender_reports[0].info.ntp, 0x1122334455667788u);
  EXPECT_EQ(content.sender_reports[0].info.bytes, 600u);
  ASSERT_EQ(content.reports.size(), 1u);
  EXPECT_EQ(content.reports[0].lost, -3);
  EXPECT_EQ(content.reports[0].highest, 70000u);
  EXPECT_EQ(content.reports[0].delay_since_sr, 0xccddu);
  ASSERT_EQ(content.nacks.size(), 1u);
  EXPECT_EQ(content.nacks[0].sequences, (std::vector<uint16_t>{65534, 65535, 0, 16, 40}));
  EXPECT_EQ(content.key_frame_requests, (std::vector<uint32_t>{78, 79}));
  EXPECT_EQ(content.byes, std::vector<uint32_t>{99});
}

TEST(Rtcp, SplitsMoreReportsThanOnePacketHolds) {
  Buffer out;
  append_receiver_report(out, 1, std::vector<RtcpReportBlock>(70));
  EXPECT_EQ(RtcpContent::parse(out).reports.size(), 70u);
}

TEST(Rtcp, ACutCompoundGivesItsWholeParts) {
  Buffer out;
  append_receiver_report(out, 1, {RtcpReportBlock{}});
  std::size_t first = out.size();
  append_pli(out, 1, 2);
  for (std::size_t n = 0; n < out.size(); ++n) {
    RtcpContent content = RtcpContent::parse(Bytes(out).first(n));
    EXPECT_EQ(content.reports.size(), n >= first ? 1u : 0u);
    EXPECT_TRUE(content.key_frame_requests.empty());
  }
}

TEST(Rtcp, NtpTimesGoThereAndBack) {
  for (int64_t us : {int64_t(0), int64_t(1700000000123456), int64_t(999999)})
    EXPECT_EQ(unix_us_from_ntp(ntp_from_unix_us(us)), us);
  EXPECT_EQ(ntp_from_unix_us(500000), (2208988800ull << 32) + 0x80000000u);
}

// What the feedback says, by sequence number.
std::map<uint16_t, int64_t> told(TransportFeedback& feedback, int* messages = nullptr,
                                 std::size_t* statuses = nullptr) {
  std::map<uint16_t, int64_t> all;
  for (Buffer out; feedback.append(out, 1, 2); out.clear()) {
    EXPECT_LT(out.size(), 1200u);
    EXPECT_EQ(out.size() % 4, 0u);
    RtcpContent content = RtcpContent::parse(out);
    EXPECT_EQ(content.transport_feedback.size(), 1u);
    for (const auto& arrival : content.transport_feedback.at(0).arrivals) {
      if (arrival.received) all[arrival.sequence] = arrival.time_us;
      if (statuses) ++*statuses;
    }
    if (messages) ++*messages;
  }
  return all;
}

TEST(TransportFeedback, TellsArrivalsWithinAQuarterMillisecond) {
  std::mt19937 random(3);
  TransportFeedback feedback;
  std::map<uint16_t, int64_t> arrived;
  int64_t now = 5000000123;
  for (int i = 0; i < 3000; ++i) {
    uint16_t sequence = uint16_t(65000 + i);
    now += random() % 100 == 0 ? 90000 : random() % 3000;
    if (random() % 10 == 0) continue;
    feedback.arrived(sequence, now);
    arrived[sequence] = now;
    if (i % 100 != 99) continue;
    auto heard = told(feedback);
    ASSERT_EQ(heard.size(), arrived.size());
    for (auto [s, time] : arrived) ASSERT_NEAR(double(heard[s]), double(time), 130) << s;
    arrived.clear();
  }
}

TEST(TransportFeedback, ALateArrivalIsToldWithItsNeighboursAgain) {
  TransportFeedback feedback;
  for (uint16_t s : {10, 11, 13, 14}) feedback.arrived(s, 1000000 + s * 1000);
  EXPECT_EQ(told(feedback).size(), 4u);
  feedback.arrived(12, 1020000);
  auto heard = told(feedback);
  EXPECT_EQ(heard.size(), 3u);
  EXPECT_NEAR(double(heard[12]), 1020000, 130);
  EXPECT_NEAR(double(heard[13]), 1013000, 130) << "before it, so with a negative difference";
}

TEST(TransportFeedback, LossIsToldDuplicatesAreNot) {
  TransportFeedback feedback;
  feedback.arrived(1, 1000000);
  feedback.arrived(1, 2000000);
  feedback.arrived(300, 1100000);
  int messages = 0;
  std::size_t statuses = 0;
  auto heard = told(feedback, &messages, &statuses);
  EXPECT_EQ(heard.size(), 2u);
  EXPECT_EQ(messages, 1);
  EXPECT_EQ(statuses, 300u);
  Buffer out;
  EXPECT_FALSE(feedback.append(out, 1, 2));
}

// A run of 8191 takes two bytes.
TEST(TransportFeedback, OfACompoundIsBounded) {
  Buffer message(24), compound;
  message[0] = 0x80 | 15;
  message[1] = 205;
  write16(&message[2], 5);
  write16(&message[14], 8191);  // statuses
  write16(&message[20], 8191);  // all of them: not received
  for (int i = 0; i < 2000; ++i) compound.insert(compound.end(), message.begin(), message.end());
  RtcpContent content = RtcpContent::parse(compound);
  ASSERT_EQ(content.transport_feedback.size(), 2000u);
  EXPECT_EQ(content.transport_feedback[0].arrivals.size(), 8191u);
  std::size_t statuses = 0;
  for (const auto& feedback : content.transport_feedback) statuses += feedback.arrivals.size();
  EXPECT_LE(statuses, 8192u);
}

TEST(TransportFeedback, AnyNumbersAndTimesEnd) {
  std::mt19937_64 random(5);
  TransportFeedback feedback;
  for (int i = 0; i < 20000; ++i) {
    feedback.arrived(uint16_t(random()), int64_t(random() % 1000000000000));
    if (i % 50 == 0) told(feedback);
  }
}

TEST(KeyFrames, AreSeenWhereTheyBegin) {
  auto key = [](const char* codec, Buffer payload) {
    return starts_key_frame(codec, payload).value();
  };
  EXPECT_TRUE(key("VP8", {0x90, 0x80, 0x81, 0x01, 0x10}));  // 15-bit picture id, then P=0
  EXPECT_FALSE(key("VP8", {0x90, 0x80, 0x81, 0x01, 0x11}));
  EXPECT_FALSE(key("VP8", {0x80, 0x80, 0x81, 0x01, 0x10})) << "not the first packet";
  EXPECT_FALSE(key("VP8", {0x90}));
  EXPECT_TRUE(key("H264", {0x67, 1}));
  EXPECT_TRUE(key("H264", {0x65, 1}));
  EXPECT_FALSE(key("H264", {0x41, 1}));
  EXPECT_TRUE(key("H264", {0x78, 0, 2, 0x09, 0xf0, 0, 2, 0x67, 1}));
  EXPECT_FALSE(key("H264", {0x78, 0xff, 0xff}));
  EXPECT_TRUE(key("H264", {0x7c, 0x85}));
  EXPECT_FALSE(key("H264", {0x7c, 0x05})) << "a later fragment";
  EXPECT_TRUE(key("H265", {0x40, 1, 0}));
  EXPECT_TRUE(key("VP9", {0x88, 0x01}));
  EXPECT_FALSE(key("VP9", {0xc8, 0x01}));
  EXPECT_TRUE(key("AV1", {0x18}));
  EXPECT_FALSE(key("AV1", {0x10}));
  EXPECT_FALSE(starts_key_frame("opus", Buffer{1}));
}

TEST(PacketCache, KeepsASecondAndNoMoreThanItsSlots) {
  PacketCache cache(8, 1000000);
  Buffer payload = text("p");
  for (int i = 0; i < 20; ++i) {
    RtpPacket packet;
    packet.sequence = uint16_t(65530 + i);
    packet.payload = payload;
    cache.put(packet, i * 1000);
  }
  EXPECT_EQ(cache.get(uint16_t(65530 + 11), 20000), nullptr);
  ASSERT_NE(cache.get(uint16_t(65530 + 12), 20000), nullptr);
  EXPECT_EQ(text_of(cache.get(uint16_t(65530 + 12), 20000)->payload), "p");
  EXPECT_EQ(cache.get(uint16_t(65530 + 12), 1013000), nullptr);
}

TEST(Hostile, RandomBytesAreReadWithoutHarm) {
  std::mt19937 random(11);
  for (int i = 0; i < 200000; ++i) {
    Buffer data(random() % 120);
    for (uint8_t& byte : data) byte = uint8_t(random());
    if (!data.empty() && random() % 4) data[0] = uint8_t(0x80 | (data[0] & 0x3f));
    if (data.size() > 1 && random() % 2) data[1] = uint8_t(200 + random() % 8);
    if (data.size() > 3 && random() % 2) {
      data[2] = 0;
      data[3] = uint8_t(random() % 32);
    }
    if (auto packet = RtpPacket::parse(data))
      for (int id = 0; id < 256; id += 5) packet->find(id);
    RtcpContent::parse(data);
    for (const char* codec : {"H264", "H265", "VP8", "VP9", "AV1"}) starts_key_frame(codec, data);
  }
}

}  // namespace
}  // namespace cfr::sfu
