// Hours of bad luck in minutes: several publishers and players, and one random fault after another
// out of the table of docs/reliability.md. It prints what it did, by seed, and how available the
// streams were; in the end every stream must flow.
//
//   CFREALTIME_SOAK_SECONDS=300 CFREALTIME_SOAK_SEED=1 soak_test
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <random>

#include "loop/content.h"
#include "loop/harness.h"
#include "net/network.h"

namespace cfr::test {
namespace {

constexpr unsigned kPublishers = 3, kPlayersEach = 2;
constexpr unsigned kFlowingMs = 1000;  // since the last frame
constexpr unsigned kTickMs = 50;
constexpr unsigned kSettleMs = 120000;  // after the last fault

unsigned from_environment(const char* name, unsigned otherwise) {
  const char* value = g_getenv(name);
  return value && *value ? unsigned(g_ascii_strtoull(value, nullptr, 10)) : otherwise;
}

std::string stream_url(Sfu& sfu, unsigned number) {
  return sfu.base_url() + "/streams/soak" + std::to_string(number);
}

struct Publisher {
  Publisher(Sfu& sfu, unsigned number) {
    const char* encoder = number % 3 == 0   ? "x264enc tune=zerolatency speed-preset=ultrafast "
                                              "key-int-max=300 ! "
                                              "video/x-h264,profile=constrained-baseline"
                          : number % 3 == 1 ? "vp8enc deadline=1 cpu-used=16 keyframe-max-dist=300"
                                            : "identity";  // the sink encodes
    launch = std::string(
                 "videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,width=320,"
                 "height=240,framerate=15/1 ! identity name=burn ! ") +
             encoder + " ! cfrealtimesink name=s stream-url=" + stream_url(sfu, number);
    start();
  }
  void start() {
    pipeline = std::make_unique<Pipeline>(launch);
    burn_counter(*pipeline, "burn");
    pipeline->play();
  }
  std::string launch;
  std::unique_ptr<Pipeline> pipeline;
};

struct Player {
  Player(Sfu& sfu, unsigned number)
      : launch("cfrealtimesrc name=r stream-url=" + stream_url(sfu, number) +
               " ! video/x-raw ! videoconvert ! video/x-raw,format=I420 ! "
               "fakesink name=out sync=false") {
    start();
  }
  void start() {
    frames.reset();
    pipeline = std::make_unique<Pipeline>(launch);
    frames = std::make_unique<Frames>(*pipeline, "out");
    pipeline->play();
    seen = 0;
  }
  void look(gint64 now) {
    unsigned count = frames->count();
    bool flowing_before = flowing;
    if (count != seen) {
      seen = count;
      last_us = now;
    }
    flowing = last_us > 0 && now - last_us < kFlowingMs * 1000;
    ++ticks;
    if (flowing) ++good_ticks;
    if (flowing_before && !flowing) lost_us = last_us;
    if (!flowing_before && flowing && lost_us) {
      outages_ms.push_back(unsigned((now - lost_us) / 1000));
      lost_us = 0;
    }
  }
  std::string launch;
  std::unique_ptr<Pipeline> pipeline;
  std::unique_ptr<Frames> frames;
  unsigned seen = 0;
  gint64 last_us = 0, lost_us = 0;
  bool flowing = false;
  unsigned ticks = 0, good_ticks = 0;
  std::vector<unsigned> outages_ms;
};

class Soak {
 public:
  explicit Soak(unsigned seed) : random_(seed) {
    for (unsigned i = 0; i < kPublishers; ++i) {
      publishers_.push_back(std::make_unique<Publisher>(sfu_, i));
      for (unsigned j = 0; j < kPlayersEach; ++j)
        players_.push_back(std::make_unique<Player>(sfu_, i));
    }
  }

  // True once all flow.
  bool pass(unsigned ms, bool until_all_flow = false) {
    gint64 end = g_get_monotonic_time() + gint64(ms) * 1000, next = 0;
    bool all = false;
    wait_until(
        [&] {
          gint64 now = g_get_monotonic_time();
          if (now >= next) {
            next = now + kTickMs * 1000;
            look(now);
            all = std::all_of(players_.begin(), players_.end(),
                              [](const auto& player) { return player->flowing; });
          }
          return now >= end || (until_all_flow && all);
        },
        ms + 10000);
    return all;
  }

  void misfortune() {
    unsigned seconds = 1 + unsigned(random_() % 9);
    switch (random_() % 12) {
      case 0: return lose("UDP blocked", "meta l4proto udp", seconds);
      case 1: return lose("cable out", "", seconds);
      case 2: return lose("API unreachable", "meta l4proto tcp", seconds);
      case 3: return lose("20 % loss", "meta l4proto udp numgen random mod 100 < 20", seconds);
      case 4: return lose("1 kbyte/s", "limit rate over 1 kbytes/second", seconds);
      case 5: {
        say("SFU restarted");
        sfu_.restart();
        return;
      }
      case 6: {
        say("SFU down for a while", seconds);
        sfu_.kill();
        pass(seconds * 1000);
        sfu_.restart();
        return;
      }
      case 7: {
        Publisher& publisher = *publishers_[random_() % publishers_.size()];
        std::string session = publisher.pipeline->string_property("s", "session-id");
        say("transport of a publisher dies");
        if (!session.empty()) http("POST", sfu_.base_url() + "/debug/kill/" + session);
        return;
      }
      case 8: {
        // A clean stop is the end of the stream: its players end, too, and others begin.
        say("publisher stopped and started");
        std::size_t number = random_() % publishers_.size();
        EXPECT_LT(publishers_[number]->pipeline->stop(), scaled(1000));
        keep_errors(*publishers_[number]->pipeline);
        for (std::size_t i = number * kPlayersEach; i < (number + 1) * kPlayersEach; ++i) {
          keep_errors(*players_[i]->pipeline);
          players_[i]->start();
        }
        publishers_[number]->start();
        return;
      }
      case 9: {
        say("player stopped and started");
        Player& player = *players_[random_() % players_.size()];
        EXPECT_LT(player.pipeline->stop(), scaled(1000));
        keep_errors(*player.pipeline);
        player.start();
        return;
      }
      case 10: {
        say("the address changes");
        Network::change_address();
        return;
      }
      default: {
        const char* faults[] = {
            R"({"operation":"sessions/new","status":503,"count":2})",
            R"({"operation":"sessions/new","status":429,"retryAfter":1,"count":2})",
            R"({"operation":"tracks/new","drop":true,"count":2})",
            R"({"operation":"tracks/new","status":410,"errorCode":"session_error","count":2})",
            R"({"operation":"renegotiate","drop":true,"count":2})",
            R"({"operation":"renegotiate","delayMs":3000,"count":2})",
            R"({"operation":"session","status":500,"count":4})",
            R"({"operation":"streams","drop":true,"count":4})"};
        const char* fault = faults[random_() % std::size(faults)];
        say(std::string("SFU restarted, with ") + fault);
        sfu_.restart();
        http("POST", sfu_.base_url() + "/debug/faults", fault);
        return;
      }
    }
  }

  void run(unsigned seconds) {
    begin_us_ = g_get_monotonic_time();
    EXPECT_TRUE(pass(kSettleMs, true)) << "the streams do not even begin";
    while (g_get_monotonic_time() - begin_us_ < gint64(seconds) * G_USEC_PER_SEC) {
      misfortune();
      // Often the next one comes before all have recovered.
      if (random_() % 3 == 0)
        pass(1000 + unsigned(random_() % 3000));
      else
        pass(12000, true);
    }
    Network::lose_nothing();
    http("DELETE", sfu_.base_url() + "/debug/faults");
    say("no more faults");
    bool all = pass(kSettleMs, true);
    for (std::size_t i = 0; i < players_.size(); ++i)
      EXPECT_TRUE(players_[i]->flowing) << "player " << i << " of stream " << i / kPlayersEach;
    (void)all;
    report();
  }

 private:
  void look(gint64 now) {
    for (auto& publisher : publishers_) publisher->pipeline->until([] { return true; }, 0);
    for (auto& player : players_) {
      player->pipeline->until([] { return true; }, 0);
      player->look(now);
    }
  }
  void lose(const std::string& what, const std::string& match, unsigned seconds) {
    say(what, seconds);
    Network::lose(match);
    pass(seconds * 1000);
    Network::lose_nothing();
  }
  void say(const std::string& what, unsigned seconds = 0) {
    printf("[ SOAK     ] %6.1f s: %s", double(g_get_monotonic_time() - begin_us_) / G_USEC_PER_SEC,
           what.c_str());
    if (seconds) printf(" for %u s", seconds);
    printf("\n");
    fflush(stdout);
    ++faults_;
  }
  void keep_errors(Pipeline& pipeline) {
    for (const auto& error : pipeline.errors) ADD_FAILURE() << error.text << "\n" << error.debug;
  }
  void report() {
    std::vector<unsigned> all;
    double worst = 1, sum = 0;
    for (auto& player : players_) {
      double available = double(player->good_ticks) / std::max(player->ticks, 1u);
      worst = std::min(worst, available);
      sum += available;
      all.insert(all.end(), player->outages_ms.begin(), player->outages_ms.end());
      keep_errors(*player->pipeline);
    }
    for (auto& publisher : publishers_) keep_errors(*publisher->pipeline);
    std::sort(all.begin(), all.end());
    auto at = [&](double part) {
      return all.empty() ? 0
                         : all[std::min(all.size() - 1, std::size_t(part * double(all.size())))];
    };
    printf(
        "[ SOAK     ] %u faults; availability %.1f %% (worst player %.1f %%); %zu recoveries, "
        "outage "
        "median %u ms, 90 %% %u ms, longest %u ms\n",
        faults_ - 1, 100 * sum / double(players_.size()), 100 * worst, all.size(), at(0.5), at(0.9),
        at(1));
  }

  Sfu sfu_;
  std::mt19937 random_;
  std::vector<std::unique_ptr<Publisher>> publishers_;
  std::vector<std::unique_ptr<Player>> players_;
  gint64 begin_us_ = g_get_monotonic_time();
  unsigned faults_ = 0;
};

TEST(Soak, every_stream_flows_in_the_end) {
  unsigned seed = from_environment("CFREALTIME_SOAK_SEED", g_random_int() % 100000);
  unsigned seconds = from_environment("CFREALTIME_SOAK_SECONDS", 300);
  printf("[ SOAK     ] CFREALTIME_SOAK_SEED=%u, %u s\n", seed, seconds);
  Soak soak(seed);
  soak.run(seconds);
}

}  // namespace
}  // namespace cfr::test
