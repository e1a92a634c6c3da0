#include "media/whole_pictures.h"

#include <gtest/gtest.h>

#include <vector>

namespace cfr {
namespace {

constexpr uint32_t kTicks = 3000;  // a picture at 30/s, of 90 kHz
constexpr uint64_t kNs = 33333333;

// Gives packets as a jitter buffer would; those not given are lost.
struct Line {
  explicit Line(const char* codec, uint16_t first = 65533) : pictures(codec), sequence(first) {}
  void lose(int packets = 1) { sequence = uint16_t(sequence + packets); }
  void give(std::vector<uint8_t> payload, bool marker = false) {
    pictures.add({sequence++, picture * kTicks, marker, picture * kNs, payload});
  }
  void next() { ++picture; }
  bool whole() const { return pictures.whole(picture * kNs); }
  bool whole_before() const { return pictures.whole((picture - 1) * kNs); }

  WholePictures pictures;
  uint16_t sequence;
  uint32_t picture = 1;
};

const std::vector<uint8_t> kSps = {0x67, 0x42, 0xc0, 0x1f}, kIdr = {0x65, 0x88, 0x80, 0x10},
                           kSecondSlice = {0x65, 0x22, 0x22, 0x08};

TEST(WholePictures, AreThoseWithoutALossBetweenFirstAndMarker) {
  Line line("H264");  // its sequence numbers wrap
  for (int i = 0; i < 5; ++i, line.next()) {
    line.give(kSps);
    line.give(kIdr);
    line.give(kSecondSlice, true);
    EXPECT_TRUE(line.whole()) << i;
  }
}

TEST(WholePictures, LossOfAWholePictureBeforeDoesNotCount) {
  Line line("H264");
  line.give(kIdr, true);
  line.next();
  line.lose(3);
  line.next();
  line.give(kSps);
  line.give(kIdr, true);
  EXPECT_TRUE(line.whole());
}

TEST(WholePictures, LossInsideCounts) {
  Line line("H264");
  line.give(kSps);
  line.lose();
  line.give(kSecondSlice, true);
  EXPECT_FALSE(line.whole());
  line.next();
  line.give(kIdr, true);
  EXPECT_TRUE(line.whole());
}

TEST(WholePictures, LossOfTheBeginningCounts) {
  Line line("H264");
  line.give(kIdr, true);
  line.next();
  line.lose();
  line.give(kSecondSlice, true);
  EXPECT_FALSE(line.whole());
}

TEST(WholePictures, LossOfTheEndCountsOnceTheNextHasBegun) {
  Line line("H264");
  line.give(kSps);
  line.give(kIdr);
  line.lose();
  line.next();
  line.give(kSps);
  EXPECT_FALSE(line.whole_before());
  EXPECT_TRUE(line.whole());
}

TEST(WholePictures, ThatAreGivenALittleEarlierThanTheyBeganAreNotThoseBefore) {
  Line line("H264");
  line.give(kIdr, true);
  line.next();
  line.give(kSps);
  line.lose();
  line.give(kSecondSlice, true);
  EXPECT_FALSE(line.pictures.whole(line.picture * kNs - 68000));
}

TEST(WholePictures, SendersWithoutMarkersAreBelieved) {
  Line line("H264");
  line.give(kSps);
  line.give(kIdr);
  line.next();
  line.give(kSps);
  EXPECT_TRUE(line.whole_before());
}

TEST(WholePictures, PaddingAfterTheEndDoesNotCount) {
  Line line("H264");
  line.give(kIdr, true);
  line.give({});  // in the time of the picture before
  line.lose();
  line.next();
  line.give(kIdr, true);
  EXPECT_TRUE(line.whole_before());
  EXPECT_TRUE(line.whole());
}

struct First {
  const char* codec;
  std::vector<uint8_t> payload;
  bool begins;
};

class AfterALoss : public testing::TestWithParam<First> {};

TEST_P(AfterALoss, ABeginningIsKnownByItsPayload) {
  Line line(GetParam().codec);
  line.give(GetParam().payload, true);
  EXPECT_EQ(line.whole(), GetParam().begins);
}

INSTANTIATE_TEST_SUITE_P(
    Payloads, AfterALoss,
    testing::Values(
        First{"H264", {0x67, 0x42, 0, 0}, true}, First{"H264", {0x06, 5, 0, 0}, true},
        First{"H264", {0x09, 0x10, 0, 0}, true}, First{"H264", {0x65, 0x80, 0, 0}, true},
        First{"H264", {0x65, 0x40, 0, 0}, false}, First{"H264", {0x41, 0x9a, 0, 0}, true},
        First{"H264", {0x78, 0, 9, 0x67, 0x42, 0}, true},              // STAP-A
        First{"H264", {0x78, 0, 9, 0x65, 0x22, 0}, false},             //
        First{"H264", {0x7c, 0x85, 0x88, 0}, true},                    // FU-A, first of first slice
        First{"H264", {0x7c, 0x85, 0x22, 0}, false},                   // first of another slice
        First{"H264", {0x7c, 0x05, 0x88, 0}, false},                   // not the first
        First{"H264", {0x65}, false}, First{"H264", {0x78}, false},    //
        First{"H264", {0x78, 0, 9}, false}, First{"H264", {}, false},  //
        First{"H265", {0x40, 1, 0, 0}, true},                          // VPS
        First{"H265", {0x4e, 1, 0, 0}, true},                          // SEI
        First{"H265", {0x26, 1, 0xaf, 0}, true}, First{"H265", {0x26, 1, 0x2f, 0}, false},
        First{"H265", {0x60, 1, 0, 9, 0x42, 1, 1}, true},  // aggregation: SPS
        First{"H265", {0x62, 1, 0x93, 0xaf}, true},        // FU, first of first slice
        First{"H265", {0x62, 1, 0x93, 0x2f}, false}, First{"H265", {0x62, 1, 0x13, 0xaf}, false},
        First{"H265", {0x60, 1, 0, 9}, false}, First{"H265", {0x26, 1}, false}));

}  // namespace
}  // namespace cfr
