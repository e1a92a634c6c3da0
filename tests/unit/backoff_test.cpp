#include "negotiation/backoff.h"

#include <gtest/gtest.h>

#include <set>

namespace cfr {
namespace {

TEST(Backoff, DoublesFromTheFirstDelayToTheLargest) {
  Backoff backoff({250, 30000}, 1);
  uint64_t exact = 250;
  for (int i = 0; i < 40; ++i) {
    uint32_t delay = backoff.next_ms();
    EXPECT_GE(delay, exact * 8 / 10) << i;
    EXPECT_LE(delay, exact * 12 / 10) << i;
    exact = std::min<uint64_t>(exact * 2, 30000);
  }
  EXPECT_EQ(backoff.attempts(), 40u);
}

TEST(Backoff, StartsAnewAfterAReset) {
  Backoff backoff({100, 1000}, 2);
  for (int i = 0; i < 5; ++i) backoff.next_ms();
  backoff.reset();
  EXPECT_EQ(backoff.attempts(), 0u);
  EXPECT_LE(backoff.next_ms(), 120u);
}

TEST(Backoff, NeverComesSoonerThanAsked) {
  Backoff backoff({250, 30000}, 3);
  for (int i = 0; i < 20; ++i) EXPECT_GE(backoff.next_ms(5000), 5000u);
  EXPECT_EQ(backoff.next_ms(0xffffffff), 0xffffffff) << "no overflow";
}

TEST(Backoff, KeepsClientsApart) {
  std::set<uint32_t> delays, told;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    delays.insert(Backoff({10000, 30000}, seed).next_ms());
    told.insert(Backoff({10000, 30000}, seed).next_ms(60000));
  }
  EXPECT_GT(delays.size(), 80u);
  EXPECT_GT(told.size(), 80u) << "also those whom the server told the same time";
  EXPECT_EQ(Backoff({10000, 30000}, 5).next_ms(), Backoff({10000, 30000}, 5).next_ms());
}

TEST(Backoff, AcceptsOddSettings) {
  EXPECT_GE(Backoff({0, 0}, 1).next_ms(), 1u);
  EXPECT_LE(Backoff({5000, 10}, 1).next_ms(), 6000u);
}

}  // namespace
}  // namespace cfr
