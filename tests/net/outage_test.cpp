// The network between the elements and the SFU fails: the application's pipelines play on, and
// media is back soon after the network is. The times are printed, for docs/reliability.md.
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <cstdio>
#include <fstream>

#include "loop/harness.h"
#include "loop/stream.h"
#include "net/network.h"

namespace cfr::test {
namespace {

unsigned since(gint64 begin_us) {
  return unsigned((g_get_monotonic_time() - begin_us) / 1000);
}

// The test goes on looking at both buses for that long.
void pass(Stream& stream, unsigned ms) {
  gint64 begin = g_get_monotonic_time();
  stream.player.until(
      [&] {
        stream.publisher.until([] { return true; }, 0);
        return since(begin) >= ms;
      },
      ms + 60000);
}

struct Outage {
  const char* name;
  const char* match;  // what is lost
  unsigned seconds;
  bool media_stops;
  enum { same, other, either } session;
};

class NetworkOutage : public testing::TestWithParam<Outage> {};

TEST_P(NetworkOutage, is_survived) {
  const Outage& outage = GetParam();
  Sfu sfu;
  Stream stream(sfu);
  States states(stream.publisher, "s");
  if (!outage.media_stops) stream.bear_with_a_busy_machine();
  ASSERT_TRUE(stream.start());
  ASSERT_TRUE(stream.settle());
  std::string session = stream.publisher.string_property("s", "session-id");
  unsigned missing = stream.frames.missing();
  unsigned before = stream.frames.count();
  states.forget();
  Network::lose(outage.match);
  pass(stream, outage.seconds * 1000);
  EXPECT_EQ(stream.publisher.errors.size() + stream.player.errors.size(), 0u);
  unsigned during = stream.frames.count() - before;
  Network::lose_nothing();
  stream.expect_back(outage.name);
  if (outage.media_stops) {
    EXPECT_GT(stream.frames.missing() - missing, outage.seconds * 30 / 2);
    if (outage.seconds >= 5) {
      EXPECT_GT(stream.frames.gaps(), 0u);
    }
  } else {
    EXPECT_GT(during, outage.seconds * 30 * 8 / 10);
    EXPECT_EQ(stream.frames.missing(), missing) << "no frame may be lost";
  }
  std::string now = stream.publisher.string_property("s", "session-id");
  if (outage.session != Outage::either) {
    EXPECT_EQ(now == session, outage.session == Outage::same);
    EXPECT_EQ(states.had("reconnecting"), outage.session == Outage::other);
  }
  // Through what is left of a bandwidth a report may come now and then.
  const bool silence = std::string(outage.match).find("limit") == std::string::npos;
  if (outage.seconds >= 5 && silence) {
    EXPECT_EQ(states.had("suspect"), outage.media_stops);
  }
  if (!outage.media_stops) {
    EXPECT_EQ(stream.publisher.warnings.size(), 0u);
    EXPECT_LE(stream.player.warnings.size(), 1u) << "of the stream document";
  }
}

INSTANTIATE_TEST_SUITE_P(
    Outages, NetworkOutage,
    testing::Values(Outage{"udp_blocked_2_s", "meta l4proto udp", 2, true, Outage::same},
                    Outage{"udp_blocked_8_s", "meta l4proto udp", 8, true, Outage::either},
                    Outage{"udp_blocked_25_s", "meta l4proto udp", 25, true, Outage::other},
                    Outage{"udp_blocked_60_s", "meta l4proto udp", 60, true, Outage::other},
                    Outage{"cable_out_8_s", "", 8, true, Outage::same},
                    Outage{"cable_out_20_s", "", 20, true, Outage::same},
                    Outage{"cable_out_60_s", "", 60, true, Outage::other},
                    Outage{"bandwidth_cut_to_nothing_12_s", "limit rate over 1 kbytes/second", 12,
                           true, Outage::either},
                    Outage{"api_unreachable_60_s", "meta l4proto tcp", 60, false, Outage::same}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(NetworkChange, the_address_changes) {
  Sfu sfu;
  Stream stream(sfu);
  ASSERT_TRUE(stream.start());
  pass(stream, 1000);
  Network::change_address();
  unsigned before = stream.frames.count();
  gint64 begin = g_get_monotonic_time();
  // What is in the jitter buffer still comes out.
  EXPECT_TRUE(stream.publisher.until(
      [&] {
        stream.player.until([] { return true; }, 0);
        return stream.publisher.connection("s") == "reconnecting";
      },
      15000));
  EXPECT_TRUE(stream.flows(1, 20000));
  measured("the_address_changes", since(begin));
  EXPECT_TRUE(stream.flows(60, 20000));
  EXPECT_GT(stream.frames.count(), before + 60);
  stream.expect_unharmed();
}

class NetworkLoss : public testing::TestWithParam<int> {};

TEST_P(NetworkLoss, at_random_is_lived_with) {
  Sfu sfu;
  Stream stream(sfu);
  stream.bear_with_a_busy_machine();
  ASSERT_TRUE(stream.start());
  ASSERT_TRUE(stream.settle());
  std::string session = stream.publisher.string_property("s", "session-id");
  Network::lose("meta l4proto udp numgen random mod 100 < " + std::to_string(GetParam()));
  unsigned before = stream.frames.count(), missing = stream.frames.missing();
  pass(stream, 15000);
  unsigned seen = stream.frames.count() - before;
  missing = stream.frames.missing() - missing;
  Network::lose_nothing();
  printf("[ MEASURED ] %d %% loss: %u of %u frames shown\n", GetParam(), seen, seen + missing);
  // Each way is lossy, and a lost picture costs all up to the next key frame.
  EXPECT_LT(missing, (seen + missing) * (GetParam() <= 1 ? 7 : GetParam() <= 5 ? 33 : 93) / 100);
  EXPECT_GT(seen, 30u);
  stream.expect_back(std::to_string(GetParam()) + " % loss");
  EXPECT_EQ(stream.publisher.string_property("s", "session-id"), session);
}

INSTANTIATE_TEST_SUITE_P(Percent, NetworkLoss, testing::Values(1, 5, 20));

TEST(NetworkLoss, comes_in_bursts) {
  Sfu sfu;
  Stream stream(sfu);
  ASSERT_TRUE(stream.start());
  std::string session = stream.publisher.string_property("s", "session-id");
  for (int i = 0; i < 3; ++i) {
    Network::lose("meta l4proto udp");
    pass(stream, 1000);
    Network::lose_nothing();
    stream.expect_back("burst of 1 s");
  }
  EXPECT_EQ(stream.publisher.string_property("s", "session-id"), session);
}

TEST(NetworkStart, an_unreachable_api_is_waited_for) {
  Sfu sfu;
  Stream stream(sfu);
  Network::lose("");
  stream.player.play();
  stream.publisher.play();
  pass(stream, 60000);
  EXPECT_EQ(stream.publisher.connection("s"), "reconnecting");
  EXPECT_EQ(stream.publisher.warnings.size(), 1u) << "one outage, one warning";
  Network::lose_nothing();
  stream.expect_back("api_unreachable_at_start_60_s");
}

TEST(NetworkStart, an_api_unreachable_for_ever_can_be_bounded) {
  Sfu sfu;
  Network::lose("");
  Pipeline publisher(std::string(kPicture) + "retry-timeout=4");
  publisher.play();
  EXPECT_TRUE(publisher.until_error(20000));
  Network::lose_nothing();
  ASSERT_FALSE(publisher.errors.empty());
  EXPECT_EQ(publisher.errors[0].domain, GST_RESOURCE_ERROR);
  EXPECT_EQ(publisher.errors[0].code, GST_RESOURCE_ERROR_OPEN_WRITE) << publisher.errors[0].text;
  EXPECT_LT(publisher.stop(), scaled(1000));
}

// A name that nobody knows yet: the file of names is this process's own.
TEST(NetworkStart, a_name_that_does_not_resolve_is_asked_for_again) {
  g_autofree char* hosts = g_build_filename(g_get_tmp_dir(), "cfrealtime-hosts-XXXXXX", nullptr);
  int file = g_mkstemp(hosts);
  ASSERT_GE(file, 0);
  close(file);
  ASSERT_EQ(mount(hosts, "/etc/hosts", nullptr, MS_BIND, nullptr), 0);
  Sfu sfu;
  std::string url = "http://sfu.example:" + std::to_string(sfu.port()) + "/v1";
  Pipeline publisher(std::string(kPicture) + "api-url=" + url);
  publisher.play();
  EXPECT_TRUE(publisher.until([&] { return !publisher.warnings.empty(); }, 20000));
  EXPECT_EQ(publisher.connection("s"), "reconnecting");
  std::ofstream(hosts) << Network::kTheirs << " sfu.example\n";
  gint64 begin = g_get_monotonic_time();
  EXPECT_FALSE(publisher.live_session("s", 1, 20000).empty());
  measured("name_does_not_resolve", since(begin));
  EXPECT_TRUE(publisher.errors.empty());
  EXPECT_LT(publisher.stop(), scaled(1000));
  umount("/etc/hosts");
  unlink(hosts);
}

// What bounds the attempts also ends them: a publisher whose way is free again stays silent.
TEST(NetworkStart, who_has_given_up_asks_no_more) {
  Sfu sfu;
  http("POST", sfu.base_url() + "/debug/faults",
       R"({"operation":"sessions/new","status":503,"count":-1})");
  Pipeline publisher(std::string(kPicture) + "retry-timeout=1");
  publisher.play();
  EXPECT_TRUE(publisher.until_error(20000));
  http("DELETE", sfu.base_url() + "/debug/faults");
  // Were it to go on, it would do so at once now.
  Network::change_address();
  unsigned asked = sfu.count("sessions/new");
  Stream other(sfu);
  EXPECT_TRUE(other.start());
  EXPECT_TRUE(other.flows(90, 20000));
  publisher.until([] { return true; }, 0);
  EXPECT_EQ(sfu.count("sessions/new"), asked + 2);
  EXPECT_EQ(publisher.errors.size(), 1u);
  EXPECT_EQ(publisher.connection("s"), "failed");
  EXPECT_LT(publisher.stop(), scaled(1000));
  EXPECT_EQ(publisher.connection("s"), "closed");
}

TEST(NetworkChange, cuts_a_long_wait_short) {
  Sfu sfu;
  http("POST", sfu.base_url() + "/debug/faults",
       R"({"operation":"sessions/new","status":503,"retryAfter":3600})");
  Pipeline publisher(kPicture);
  publisher.play();
  EXPECT_TRUE(publisher.until([&] { return !publisher.warnings.empty(); }, 20000));
  Network::change_address();
  EXPECT_FALSE(publisher.live_session("s", 1, 30000).empty());
  EXPECT_TRUE(publisher.errors.empty());
}

TEST(NetworkStart, udp_is_blocked_and_the_error_says_what_helps) {
  Sfu sfu;
  Network::lose("meta l4proto udp");
  Pipeline publisher(std::string(kPicture) + "max-retries=1");
  publisher.play();
  EXPECT_TRUE(publisher.until_error(30000));
  Network::lose_nothing();
  ASSERT_FALSE(publisher.errors.empty());
  EXPECT_NE(publisher.errors[0].text.find("turn-key-id"), std::string::npos)
      << publisher.errors[0].text;
}

TEST(Clock, a_jump_is_not_noticed) {
  Sfu sfu;
  Stream stream(sfu);
  stream.bear_with_a_busy_machine();
  ASSERT_TRUE(stream.start());
  ASSERT_TRUE(stream.settle());
  const unsigned missing = stream.frames.missing();
  std::string session = stream.publisher.string_property("s", "session-id");
  for (int seconds : {3600, -7200, 400 * 24 * 3600, -400 * 24 * 3600}) {
    jump_clock(seconds);
    EXPECT_TRUE(stream.flows(60, 10000)) << "after a jump of " << seconds << " s";
  }
  EXPECT_EQ(stream.frames.missing(), missing);
  EXPECT_EQ(stream.publisher.string_property("s", "session-id"), session);
  stream.expect_unharmed();
}

}  // namespace
}  // namespace cfr::test
