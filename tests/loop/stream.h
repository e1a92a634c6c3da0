// A publisher and a player joined by a stream document, whose media must survive what a test does.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <cstdio>
#include <mutex>
#include <set>
#include <string>

#include "loop/content.h"
#include "loop/harness.h"

namespace cfr::test {

inline constexpr char kPicture[] =
    "videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,width=320,height=240,"
    "framerate=30/1 ! identity name=burn ! x264enc tune=zerolatency speed-preset=ultrafast "
    "key-int-max=300 ! video/x-h264,profile=constrained-baseline ! cfrealtimesink name=s ";
inline constexpr char kShow[] =
    " ! video/x-raw ! videoconvert ! video/x-raw,format=I420 ! fakesink name=out sync=false";

inline void measured(const std::string& what, unsigned ms) {
  printf("[ MEASURED ] %s: media back after %u ms\n", what.c_str(), ms);
  fflush(stdout);
}

// The connection states that an element has said, by nick.
class States {
 public:
  States(const Pipeline& pipeline, const char* name) : element_(pipeline.element(name)) {
    handler_ = g_signal_connect(element_.get(), "notify::connection-state",
                                G_CALLBACK(+[](GstElement* element, GParamSpec*, States* self) {
                                  std::string state = connection_of(element);
                                  std::lock_guard lock(self->mutex_);
                                  self->had_.insert(state);
                                }),
                                this);
  }
  ~States() { g_signal_handler_disconnect(element_.get(), handler_); }
  bool had(const char* state) {
    std::lock_guard lock(mutex_);
    return had_.count(state) > 0;
  }
  void forget() {
    std::lock_guard lock(mutex_);
    had_.clear();
  }

 private:
  gref<GstElement> element_;
  gulong handler_ = 0;
  std::mutex mutex_;
  std::set<std::string> had_;
};

// A publisher and a player joined by a stream document.
struct Stream {
  // `options`: further properties of both elements.
  explicit Stream(Sfu& sfu, const std::string& options = "")
      : url(sfu.base_url() + "/streams/cam"),
        publisher(std::string(kPicture) + options + " stream-url=" + url),
        player("cfrealtimesrc name=r " + options + " stream-url=" + url + kShow),
        frames(player, "out") {
    burn_counter(publisher, "burn");
    auto source = player.element("r");
    g_signal_connect_swapped(source.get(), "pad-added",
                             G_CALLBACK(+[](Stream* self, GstPad*) { ++self->pads_added; }), this);
    g_signal_connect_swapped(source.get(), "pad-removed",
                             G_CALLBACK(+[](Stream* self, GstPad*) { ++self->pads_removed; }),
                             this);
  }
  // Where no frame may be lost, none shall come too late on a busy machine. Before start().
  void bear_with_a_busy_machine() {
    g_object_set(player.element("r").get(), "latency", 1000, nullptr);
  }
  bool start(unsigned timeout_ms = 20000) {
    player.play();
    publisher.play();
    return flows(30, timeout_ms);
  }
  // A machine on which much begins at once drops what comes too late. From here on a second of
  // frames has been whole, so what is missing later has another cause.
  bool settle() {
    for (int seconds = 0; seconds < 30; ++seconds) {
      unsigned missing = frames.missing();
      if (!flows(30, 20000)) return false;
      if (frames.missing() == missing) return true;
    }
    return false;
  }
  // `n` more frames within the time; both buses are read.
  bool flows(unsigned n, unsigned timeout_ms) {
    unsigned from = frames.count();
    return player.until(
        [&] {
          publisher.until([] { return true; }, 0);
          return frames.count() >= from + n;
        },
        timeout_ms);
  }
  // The cause of an outage has ended, `begin` ago. How long it took is printed, for
  // docs/reliability.md; the bound is far above what is aimed at, since a machine may be slow.
  void expect_back(const std::string& what, gint64 begin = g_get_monotonic_time()) {
    EXPECT_TRUE(flows(1, 15000)) << what;
    measured(what, unsigned((g_get_monotonic_time() - begin) / 1000));
    EXPECT_TRUE(flows(60, 20000)) << what;
    expect_unharmed();
  }
  void expect_unharmed() {
    EXPECT_TRUE(publisher.errors.empty()) << publisher.errors[0].text << publisher.errors[0].debug;
    EXPECT_TRUE(player.errors.empty()) << player.errors[0].text << player.errors[0].debug;
    EXPECT_EQ(frames.backwards(), 0u);
    EXPECT_EQ(frames.unreadable(), 0u) << "damaged pictures were shown";
    EXPECT_EQ(pads_added, 1u);
    EXPECT_EQ(pads_removed, 0u);
    EXPECT_EQ(frames.eos(), 0u);
  }

  std::string url;
  Pipeline publisher, player;
  Frames frames;
  std::atomic<unsigned> pads_added{0}, pads_removed{0};
};

}  // namespace cfr::test
