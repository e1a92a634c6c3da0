// Every way to end, at every step of a connection's life: it takes no longer than it may, nothing
// is complained about, nothing is left.
#include <gtest/gtest.h>

#include <cstring>

#include "loop/content.h"
#include "loop/harness.h"

namespace cfr::test {
namespace {

std::atomic<unsigned> criticals{0};

void count_criticals() {
  g_log_set_default_handler(
      [](const gchar* domain, GLogLevelFlags level, const gchar* message, gpointer) {
        if (!(level & (G_LOG_LEVEL_CRITICAL | G_LOG_LEVEL_ERROR))) return;
        // GStreamer 1.22.0 looks through the sources of an RTP session while it adds one.
        if (strstr(message, "g_hash_table_foreach: assertion 'version == hash_table->version'"))
          return;
        ++criticals;
        fprintf(stderr, "%s-CRITICAL: %s\n", domain ? domain : "", message);
      },
      nullptr);
}

constexpr char kTone[] = "audiotestsrc is-live=true ! cfrealtimesink name=s ";
constexpr char kHear[] = " ! audio/x-raw ! fakesink name=out sync=false async=false";

enum class Ending { stop, eos, release, change, remove };
constexpr Ending kSinkEndings[] = {Ending::stop, Ending::eos, Ending::release, Ending::remove};
constexpr Ending kSrcEndings[] = {Ending::stop, Ending::eos, Ending::change, Ending::remove};

const char* name_of(Ending ending) {
  switch (ending) {
    case Ending::stop: return "stopped";
    case Ending::eos: return "EOS";
    case Ending::release: return "pads released";
    case Ending::change: return "another session-id";
    case Ending::remove: return "element removed";
  }
  return "";
}

// What a case works with: an SFU of which nothing is held or wrong any more.
struct Stage {
  explicit Stage(Sfu& sfu) : sfu(sfu) {
    let_go();
    EXPECT_TRUE(wait_until([&] { return !held(""); }))
        << "calls of the case before: " << sfu.stats();
    begun = sfu.requests().size();
  }
  Sfu& sfu;
  std::size_t begun;                    // length of the request log
  std::unique_ptr<Pipeline> publisher;  // of a source
  std::unique_ptr<Pipeline> pipeline;   // with the element that ends
  std::string publisher_session;

  void fault(const std::string& json) {
    ASSERT_EQ(http("POST", sfu.base_url() + "/debug/faults", json).status, 200);
  }
  // From now on replies to these calls do not come.
  void hold(const std::string& operation) {
    fault("{\"operation\":\"" + operation + "\",\"delayMs\":60000,\"count\":-1}");
  }
  // What is held is answered, and nothing is from now on.
  void let_go() { http("DELETE", sfu.base_url() + "/debug/faults"); }
  // A call with a path that ends so is held.
  bool held(const std::string& path_end) {
    std::string stats = sfu.stats();
    auto begin = stats.find("[", stats.find("\"held\":")), end = stats.find(']', begin);
    return stats.substr(begin, end - begin).find(path_end + "\"") != std::string::npos;
  }
  unsigned count(const std::string& text) { return sfu.count(text, begun); }
  // The error it ends with is part of the case.
  bool fails(const char* name) {
    bool failed = pipeline->until_error(15000) && pipeline->connection(name) == "failed";
    pipeline->errors.clear();
    return failed;
  }
  bool until(const std::function<bool()>& done, unsigned timeout_ms = 15000) {
    return pipeline->until(done, timeout_ms);
  }
  void kill_transport_of(const std::string& session) {
    http("POST", sfu.base_url() + "/debug/kill/" + session);
  }
  std::string own_session(const char* name) {
    GstStructure* stats = nullptr;
    g_object_get(pipeline->element(name).get(), "stats", &stats, nullptr);
    std::string id = gst_structure_get_string(stats, "session-id");
    gst_structure_free(stats);
    return id;
  }
};

// `begin` brings the element to the step; false if it does not get there.
struct Step {
  const char* name;
  bool (*begin)(Stage&);
  bool published = false;  // the SFU has a track of ours, which is to be closed
};

std::string stream_url(Stage& stage) {
  return "stream-url=" + stage.sfu.base_url() + "/streams/end";
}

bool live(Stage& stage) {
  stage.pipeline = std::make_unique<Pipeline>(kTone);
  stage.pipeline->play();
  return stage.until([&] { return stage.pipeline->tracks_live > 0; });
}

bool add_source(Stage& stage, const char* pad) {
  GstElement* source = gst_element_factory_make("audiotestsrc", nullptr);
  g_object_set(source, "is-live", TRUE, nullptr);
  gst_bin_add(GST_BIN(stage.pipeline->get()), source);
  bool linked = gst_element_link_pads(source, "src", stage.pipeline->element("s").get(), pad);
  gst_element_sync_state_with_parent(source);
  return linked;
}

const Step kSinkSteps[] = {
    {"just_started",
     [](Stage& stage) {
       stage.pipeline = std::make_unique<Pipeline>(kTone);
       stage.pipeline->play();
       return true;
     }},
    {"session_asked_for",
     [](Stage& stage) {
       stage.hold("sessions/new");
       stage.pipeline = std::make_unique<Pipeline>(kTone);
       stage.pipeline->play();
       return stage.until([&] { return stage.held("sessions/new"); });
     }},
    {"offer_posted",
     [](Stage& stage) {
       stage.hold("tracks/new");
       stage.pipeline = std::make_unique<Pipeline>(kTone);
       stage.pipeline->play();
       return stage.until([&] { return stage.held("tracks/new"); });
     }},
    {"answer_received",
     [](Stage& stage) {
       stage.pipeline = std::make_unique<Pipeline>(kTone);
       stage.pipeline->play();
       return stage.until([&] { return stage.count("tracks/new") > 0; });
     },
     true},
    {"connecting",
     [](Stage& stage) {
       stage.hold("tracks/new");
       stage.pipeline = std::make_unique<Pipeline>(kTone);
       stage.pipeline->play();
       if (!stage.until([&] { return stage.held("tracks/new"); })) return false;
       stage.kill_transport_of(stage.own_session("s"));
       stage.let_go();
       return stage.until([&] { return stage.count("tracks/new") > 0; }) &&
              stage.pipeline->connection("s") == "connecting";
     },
     true},
    {"live", live, true},
    {"adding_a_track",
     [](Stage& stage) {
       if (!live(stage)) return false;
       stage.hold("tracks/new");
       return add_source(stage, "audio_%u") &&
              stage.until([&] { return stage.held("tracks/new"); });
     },
     true},
    {"closing_a_track",
     [](Stage& stage) {
       if (!live(stage) || !add_source(stage, "audio_7") ||
           !stage.until([&] { return stage.pipeline->tracks_live > 1; }))
         return false;
       stage.hold("tracks/close");
       auto sink = stage.pipeline->element("s");
       g_autoptr(GstPad) pad = gst_element_get_static_pad(sink.get(), "audio_7");
       g_autoptr(GstPad) peer = gst_pad_get_peer(pad);
       g_autoptr(GstElement) source = gst_pad_get_parent_element(peer);
       gst_element_set_state(source, GST_STATE_NULL);
       gst_bin_remove(GST_BIN(stage.pipeline->get()), source);
       gst_element_release_request_pad(sink.get(), pad);
       return stage.until([&] { return stage.held("tracks/close"); });
     }},
    {"waiting_to_retry",
     [](Stage& stage) {
       stage.fault(R"({"operation":"sessions/new","status":503,"retryAfter":30,"count":-1})");
       stage.pipeline = std::make_unique<Pipeline>(kTone);
       stage.pipeline->play();
       return stage.until([&] { return stage.pipeline->connection("s") == "reconnecting"; });
     }},
    {"turn_credentials_asked_for",
     [](Stage& stage) {
       g_setenv("CFREALTIME_TURN_KEY_TOKEN", "south", TRUE);
       stage.hold("ice-servers");
       stage.pipeline = std::make_unique<Pipeline>(std::string(kTone) + "turn-key-id=key");
       stage.pipeline->play();
       return stage.until([&] { return stage.held("generate-ice-servers"); });
     }},
    {"stream_document_being_put",
     [](Stage& stage) {
       stage.hold("streams");
       stage.pipeline = std::make_unique<Pipeline>(kTone + stream_url(stage));
       stage.pipeline->play();
       return stage.until([&] { return stage.held("/streams/end"); });
     },
     true},
    {"suspect",
     [](Stage& stage) {
       if (!live(stage)) return false;
       stage.hold("session");
       std::string own = stage.own_session("s");
       stage.kill_transport_of(own);
       return stage.until([&] { return stage.held(own); }) &&
              stage.pipeline->connection("s") == "suspect";
     },
     true},
    {"failed",
     [](Stage& stage) {
       stage.fault(R"({"operation":"sessions/new","status":401,"errorCode":"unauthorized"})");
       stage.pipeline = std::make_unique<Pipeline>(kTone);
       stage.pipeline->play();
       return stage.fails("s");
     }},
    {"reconnecting",
     [](Stage& stage) {
       if (!live(stage)) return false;
       stage.hold("sessions/new");
       http("POST", stage.sfu.base_url() + "/debug/restart");
       return stage.until([&] { return stage.held("sessions/new"); });
     }},
};

// --- sources ---------------------------------------------------------------------------------

bool publish(Stage& stage) {
  stage.publisher = std::make_unique<Pipeline>(kTone, "publisher");
  stage.publisher->play();
  stage.publisher_session = stage.publisher->live_session();
  return !stage.publisher_session.empty();
}

void play(Stage& stage, const std::string& tail = kHear) {
  stage.pipeline = std::make_unique<Pipeline>(
      "cfrealtimesrc name=r session-id=" + stage.publisher_session + tail);
  stage.pipeline->play();
}

bool playing(Stage& stage) {
  if (!publish(stage)) return false;
  play(stage);
  Buffers buffers(*stage.pipeline, "out");
  return stage.until([&] { return buffers.count() > 0; });
}

const Step kSrcSteps[] = {
    {"just_started",
     [](Stage& stage) {
       if (!publish(stage)) return false;
       play(stage);
       return true;
     }},
    {"tracks_asked_for",
     [](Stage& stage) {
       if (!publish(stage)) return false;
       stage.hold("session");
       play(stage);
       return stage.until([&] { return stage.held(stage.publisher_session); });
     }},
    {"session_asked_for",
     [](Stage& stage) {
       if (!publish(stage)) return false;
       stage.hold("sessions/new");
       play(stage);
       return stage.until([&] { return stage.held("sessions/new"); });
     }},
    {"pull_posted",
     [](Stage& stage) {
       if (!publish(stage)) return false;
       stage.hold("tracks/new");
       play(stage);
       return stage.until([&] { return stage.held("tracks/new"); });
     }},
    {"answer_sent",
     [](Stage& stage) {
       if (!publish(stage)) return false;
       stage.hold("renegotiate");
       play(stage);
       return stage.until([&] { return stage.held("renegotiate"); });
     }},
    {"connecting",
     [](Stage& stage) {
       if (!publish(stage)) return false;
       stage.hold("tracks/new");
       play(stage);
       if (!stage.until([&] { return stage.held("tracks/new"); })) return false;
       stage.kill_transport_of(stage.own_session("r"));
       stage.let_go();
       return stage.until([&] { return stage.count("renegotiate") > 0; }) &&
              stage.pipeline->connection("r") == "connecting";
     }},
    {"playing", playing},
    {"pads_not_linked",
     [](Stage& stage) {
       if (!publish(stage)) return false;
       play(stage, "");
       auto source = stage.pipeline->element("r");
       return stage.until([&] { return source.get()->numsrcpads > 0; });
     }},
    {"waiting_for_the_publisher",
     [](Stage& stage) {
       stage.publisher_session = "0123456789abcdef0123456789abcdef";
       play(stage);
       return stage.until([&] { return stage.count(stage.publisher_session) > 0; });
     }},
    {"waiting_for_the_stream",
     [](Stage& stage) {
       stage.pipeline = std::make_unique<Pipeline>(
           "cfrealtimesrc name=r stream-url=" + stage.sfu.base_url() + "/streams/none" + kHear);
       stage.pipeline->play();
       return stage.until([&] { return stage.count("/streams/none") > 0; });
     }},
    {"stream_asked_for",
     [](Stage& stage) {
       stage.hold("streams");
       stage.pipeline =
           std::make_unique<Pipeline>("cfrealtimesrc name=r " + stream_url(stage) + kHear);
       stage.pipeline->play();
       return stage.until([&] { return stage.held("/streams/end"); });
     }},
    {"waiting_to_retry",
     [](Stage& stage) {
       if (!publish(stage)) return false;
       stage.fault(R"({"operation":"sessions/new","status":503,"retryAfter":30,"count":-1})");
       play(stage);
       return stage.until([&] { return stage.pipeline->connection("r") == "reconnecting"; });
     }},
    {"closing_a_track",
     [](Stage& stage) {
       if (!playing(stage)) return false;
       stage.hold("tracks/close");
       g_object_set(stage.pipeline->element("r").get(), "session-id",
                    "00112233445566778899aabbccddeeff", nullptr);
       return stage.until([&] { return stage.held("tracks/close"); });
     }},
    {"suspect",
     [](Stage& stage) {
       if (!playing(stage)) return false;
       stage.hold("session");
       std::string own = stage.own_session("r");
       stage.kill_transport_of(own);
       return stage.until([&] { return stage.held(own); }) &&
              stage.pipeline->connection("r") == "suspect";
     }},
    {"failed",
     [](Stage& stage) {
       if (!publish(stage)) return false;
       stage.fault(R"({"operation":"sessions/new","status":401,"errorCode":"unauthorized"})");
       play(stage);
       return stage.fails("r");
     }},
    {"reconnecting",
     [](Stage& stage) {
       if (!playing(stage)) return false;
       stage.hold("sessions/new");
       http("POST", stage.sfu.base_url() + "/debug/restart");
       return stage.until([&] { return stage.held("sessions/new"); });
     }},
};

// --- the endings -----------------------------------------------------------------------------

void end(Stage& stage, Ending ending, const char* name) {
  auto element = stage.pipeline->element(name);
  switch (ending) {
    case Ending::stop: break;
    case Ending::eos: {
      Stopwatch watch;
      gst_element_send_event(stage.pipeline->get(), gst_event_new_eos());
      // A source without pads has nobody to tell.
      if (g_str_equal(name, "s")) {
        EXPECT_TRUE(stage.pipeline->until_eos(5000));
        EXPECT_LT(watch.ms(), scaled(2000));
      } else if (element.get()->numsrcpads > 0) {
        auto out = stage.pipeline->element("out");
        if (out) {
          g_autoptr(GstPad) pad = gst_element_get_static_pad(out.get(), "sink");
          EXPECT_TRUE(stage.until([&] { return GST_PAD_IS_EOS(pad) != 0; })) << "downstream";
        }
      }
      break;
    }
    case Ending::release: {
      std::vector<gref<GstPad>> pads;
      for (GList* item = element.get()->sinkpads; item; item = item->next)
        pads.push_back(gref<GstPad>::ref(GST_PAD(item->data)));
      Stopwatch watch;
      for (auto& held : pads) {
        GstPad* pad = held.get();
        g_autoptr(GstPad) peer = gst_pad_get_peer(pad);
        // As applications do it: nothing is pushed while the pad goes.
        if (peer) {
          g_autoptr(GstElement) source = gst_pad_get_parent_element(peer);
          gst_element_set_state(source, GST_STATE_NULL);
          gst_bin_remove(GST_BIN(stage.pipeline->get()), source);
        }
        gst_element_release_request_pad(element.get(), pad);
      }
      EXPECT_LT(watch.ms(), scaled(1000));
      break;
    }
    case Ending::change:
      g_object_set(element.get(), "session-id", "fedcba9876543210fedcba9876543210", nullptr);
      break;
    case Ending::remove: {
      Stopwatch watch;
      gst_element_set_locked_state(element.get(), TRUE);
      gst_element_set_state(element.get(), GST_STATE_NULL);
      EXPECT_LT(watch.ms(), scaled(1000));
      gst_bin_remove(GST_BIN(stage.pipeline->get()), element.get());
      break;
    }
  }
  element.reset();
  EXPECT_LT(stage.pipeline->stop(), scaled(1000));
}

void run(Sfu& sfu, const Step& step, Ending ending, const char* name) {
  SCOPED_TRACE(name_of(ending));
  unsigned before = criticals;
  {
    Stage stage(sfu);
    ASSERT_TRUE(step.begin(stage)) << "the step was not reached";
    std::string own = step.published ? stage.own_session(name) : "";
    EXPECT_EQ(own.empty(), !step.published);
    end(stage, ending, name);
    // What is downstream of a source that was taken away, or upstream of a sink, may complain.
    if (ending != Ending::remove)
      for (const auto& error : stage.pipeline->errors) ADD_FAILURE() << error.text << error.debug;
    if (step.published) {
      EXPECT_GE(stage.count("tracks/close"), 1u);
      std::string record;
      EXPECT_TRUE(wait_until([&] {
        record = http("GET", sfu.api_url() + "/apps/demo/sessions/" + own).body;
        return record.find("\"active\"") == std::string::npos;
      })) << record;
    }
    stage.pipeline.reset();
    if (stage.publisher) {
      EXPECT_LT(stage.publisher->stop(), scaled(1000));
    }
  }
  EXPECT_EQ(criticals, before);
}

class SinkEndings : public testing::TestWithParam<Step> {};
class SrcEndings : public testing::TestWithParam<Step> {};

template <std::size_t N>
void run_all(const Step& step, const Ending (&endings)[N], const char* name) {
  count_criticals();
  Sfu sfu;
  run(sfu, step, endings[0], name);  // what is made once a process is there
  unsigned fds = count_fds(), threads = count_threads();
  for (Ending ending : endings) run(sfu, step, ending, name);
  EXPECT_TRUE(wait_until([&] { return count_threads() <= threads + 2; }))
      << threads << " threads before, now " << count_threads();
  // A webrtcbin that was replaced ends in a thread of its own.
  EXPECT_TRUE(wait_until([&] { return count_fds() <= fds + 3; }))
      << fds << " descriptors before, now " << count_fds();
}

TEST_P(SinkEndings, are_bounded) {
  run_all(GetParam(), kSinkEndings, "s");
}
TEST_P(SrcEndings, are_bounded) {
  run_all(GetParam(), kSrcEndings, "r");
}

auto named = [](const auto& info) { return std::string(info.param.name); };
INSTANTIATE_TEST_SUITE_P(Steps, SinkEndings, testing::ValuesIn(kSinkSteps), named);
INSTANTIATE_TEST_SUITE_P(Steps, SrcEndings, testing::ValuesIn(kSrcSteps), named);

TEST(Endings, eos_of_one_pad_ends_that_track_alone) {
  Sfu sfu;
  Pipeline publisher(
      "audiotestsrc is-live=true freq=440 ! audio/x-raw,rate=48000 ! cfrealtimesink name=s "
      "audiotestsrc name=other is-live=true ! s.audio_5");
  publisher.play();
  std::string session = publisher.live_session("s", 2);
  ASSERT_FALSE(session.empty());
  Pipeline player("cfrealtimesrc name=r tracks=" + session +
                  "/audio_0 ! audio/x-raw ! audioconvert ! audioresample ! "
                  "audio/x-raw,format=S16LE,rate=48000,channels=1 ! fakesink name=out sync=false");
  Tone tone(player, "out");
  player.play();
  ASSERT_TRUE(player.until([&] { return tone.frequency() > 435 && tone.frequency() < 445; }));
  auto other = publisher.element("other");
  gst_element_send_event(other.get(), gst_event_new_eos());
  EXPECT_TRUE(publisher.until([&] { return publisher.tracks_closed == 1; }));
  Buffers buffers(player, "out");
  EXPECT_TRUE(player.until([&] { return buffers.count() > 100; }));
  EXPECT_GT(tone.frequency(), 435);
  EXPECT_LT(tone.frequency(), 445);
  EXPECT_FALSE(publisher.eos);
  EXPECT_EQ(publisher.connection("s"), "connected");
}

constexpr char kFile[] =
    "videotestsrc name=v ! video/x-raw,format=I420,width=64,height=64,framerate=30/1 ! identity "
    "name=burn ! s.video_0 cfrealtimesink name=s ";

// Media that is not live waits inside the sink, for its connection and in PAUSED.
TEST(Endings, a_pad_whose_media_waits_is_released_at_once) {
  Sfu sfu;
  for (bool connected : {false, true}) {
    if (!connected)
      http("POST", sfu.base_url() + "/debug/faults",
           R"({"operation":"sessions/new","delayMs":60000,"count":-1})");
    Pipeline publisher(kFile);
    auto sink = publisher.element("s");
    g_autoptr(GstPad) pad = gst_element_get_static_pad(sink.get(), "video_0");
    std::atomic<int> buffers{0};
    gst_pad_add_probe(
        pad, GST_PAD_PROBE_TYPE_BUFFER,
        [](GstPad*, GstPadProbeInfo*, gpointer buffers) {
          ++*static_cast<std::atomic<int>*>(buffers);
          return GST_PAD_PROBE_OK;
        },
        &buffers, nullptr);
    publisher.play();
    EXPECT_TRUE(publisher.until([&] { return buffers > 0; }));
    if (connected) {
      publisher.live_session();
      gst_element_set_state(publisher.get(), GST_STATE_PAUSED);
    }
    // Until no more can come, since the one before is held.
    int before;
    do {
      before = buffers;
      publisher.until([&] { return buffers > before; }, 200);
    } while (buffers > before);
    Stopwatch watch;
    gst_element_release_request_pad(sink.get(), pad);
    EXPECT_LT(watch.ms(), scaled(1000));
    EXPECT_LT(publisher.stop(), scaled(1000));
    http("DELETE", sfu.base_url() + "/debug/faults");
  }
}

// As players loop a file.
TEST(Endings, a_seek_back_from_the_end_publishes_anew) {
  Sfu sfu;
  Pipeline publisher(
      "videotestsrc ! video/x-raw,format=I420,width=64,height=64,framerate=30/1 ! "
      "cfrealtimesink name=s");
  auto seek = [&] {
    return gst_element_seek(publisher.get(), 1, GST_FORMAT_TIME, GST_SEEK_FLAG_FLUSH,
                            GST_SEEK_TYPE_SET, 0, GST_SEEK_TYPE_SET, 3 * GST_SECOND / 2);
  };
  gst_element_set_state(publisher.get(), GST_STATE_PAUSED);
  EXPECT_TRUE(publisher.until([&] { return seek() == TRUE; }));
  publisher.play();
  for (unsigned run = 1; run <= 3; ++run) {
    EXPECT_TRUE(publisher.until_eos(20000)) << "run " << run;
    EXPECT_TRUE(publisher.until([&] { return publisher.tracks_live == run; })) << run;
    publisher.eos = false;
    EXPECT_TRUE(seek());
  }
  EXPECT_TRUE(publisher.errors.empty()) << publisher.errors[0].text;
}

// From the middle of a film: the seek comes before there is a connection, or even a session.
TEST(Endings, a_seek_goes_to_the_source_though_nothing_is_connected) {
  Sfu sfu;
  http("POST", sfu.base_url() + "/debug/faults",
       R"({"operation":"sessions/new","delayMs":60000,"count":-1})");
  Pipeline publisher(kFile);
  gst_element_set_state(publisher.get(), GST_STATE_PAUSED);
  std::atomic<gint64> from{-1};
  auto source = publisher.element("v");
  g_autoptr(GstPad) pad = gst_element_get_static_pad(source.get(), "src");
  gst_pad_add_probe(
      pad, GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM,
      [](GstPad*, GstPadProbeInfo* info, gpointer from) {
        GstEvent* event = GST_PAD_PROBE_INFO_EVENT(info);
        const GstSegment* segment;
        if (GST_EVENT_TYPE(event) != GST_EVENT_SEGMENT) return GST_PAD_PROBE_OK;
        gst_event_parse_segment(event, &segment);
        *static_cast<std::atomic<gint64>*>(from) = gint64(segment->start);
        return GST_PAD_PROBE_OK;
      },
      &from, nullptr);
  EXPECT_TRUE(publisher.until([&] { return from == 0; }));
  g_autoptr(GstQuery) seeking = gst_query_new_seeking(GST_FORMAT_TIME);
  EXPECT_TRUE(gst_element_query(publisher.get(), seeking));
  EXPECT_TRUE(gst_element_seek_simple(publisher.get(), GST_FORMAT_TIME, GST_SEEK_FLAG_FLUSH,
                                      60 * GST_SECOND));
  EXPECT_TRUE(publisher.until([&] { return from == gint64(60 * GST_SECOND); })) << from;
  gint64 position = -1;
  EXPECT_TRUE(gst_element_query_position(publisher.get(), GST_FORMAT_TIME, &position));
  EXPECT_GE(position, gint64(60 * GST_SECOND));
}

TEST(Endings, eos_in_paused_is_taken_at_once) {
  Sfu sfu;
  Pipeline publisher(kTone);
  publisher.play();
  Pipeline player("cfrealtimesrc name=r session-id=" + publisher.live_session() +
                  " ! audio/x-raw ! fakesink name=out sync=true");
  Buffers buffers(player, "out");
  player.play();
  ASSERT_TRUE(player.until([&] { return buffers.count() > 10; }));
  gst_element_set_state(player.get(), GST_STATE_PAUSED);
  // What comes now waits in the sink.
  unsigned before;
  do {
    before = buffers.count();
    player.until([&] { return buffers.count() > before; }, 200);
  } while (buffers.count() > before);
  Stopwatch watch;
  gst_element_send_event(player.get(), gst_event_new_eos());
  EXPECT_LT(watch.ms(), scaled(500));
  player.play();
  EXPECT_TRUE(player.until_eos());
}

// An application that takes its time over the first pad, and ends the pipeline there.
TEST(Endings, stopping_while_pads_are_added_leaves_none) {
  count_criticals();
  unsigned before = criticals;
  Sfu sfu;
  Pipeline publisher(std::string(kTone) + "audiotestsrc is-live=true ! s.audio_1");
  publisher.play();
  std::string session = publisher.live_session("s", 2);
  Pipeline player("cfrealtimesrc name=r session-id=" + session);
  auto source = player.element("r");
  struct Seen {
    GstElement* pipeline;
    std::atomic<int> pads{0};
  } seen{player.get()};
  gulong handler =
      g_signal_connect(source.get(), "pad-added", G_CALLBACK(+[](GstElement*, GstPad*, Seen* seen) {
                         ++seen->pads;
                         gst_element_set_state(seen->pipeline, GST_STATE_NULL);
                       }),
                       &seen);
  player.play();
  ASSERT_TRUE(player.until([&] { return seen.pads > 0; }, 20000));
  EXPECT_TRUE(player.until([&] { return source.get()->numsrcpads == 0; }));
  g_signal_handler_disconnect(source.get(), handler);
  player.play();
  EXPECT_TRUE(player.until([&] { return source.get()->numsrcpads == 2; }, 20000));
  EXPECT_EQ(criticals, before);
}

// In a handler of the element, on its own thread.
TEST(Endings, another_run_begins_where_one_is_ended) {
  Sfu sfu;
  Pipeline publisher(kTone);
  struct Seen {
    GstElement* pipeline;
    std::atomic<int> sessions{0};
  } seen{publisher.get()};
  g_signal_connect(publisher.element("s").get(), "session-created",
                   G_CALLBACK(+[](GstElement*, const char*, Seen* seen) {
                     if (++seen->sessions > 3) return;
                     gst_element_set_state(seen->pipeline, GST_STATE_NULL);
                     gst_element_set_state(seen->pipeline, GST_STATE_PLAYING);
                   }),
                   &seen);
  publisher.play();
  EXPECT_TRUE(publisher.until([&] { return publisher.tracks_live > 0; }, 20000));
  EXPECT_EQ(seen.sessions, 4);
  EXPECT_TRUE(publisher.errors.empty()) << publisher.errors[0].text;
  EXPECT_LT(publisher.stop(), scaled(1000));
}

TEST(Endings, two_hundred_connected_runs_leave_nothing) {
  Sfu sfu;
  auto cycle = [] {
    Pipeline publisher(kTone);
    publisher.play();
    std::string session = publisher.live_session();
    Pipeline player("cfrealtimesrc session-id=" + session + kHear);
    Buffers buffers(player, "out");
    player.play();
    EXPECT_TRUE(player.until([&] { return buffers.count() > 0; }));
    EXPECT_LT(player.stop(), scaled(1000));
    EXPECT_LT(publisher.stop(), scaled(1000));
  };
  for (int i = 0; i < 10; ++i) cycle();
  unsigned fds = count_fds(), threads = count_threads(), memory = resident_kib();
  for (int i = 0; i < 200; ++i) cycle();
  EXPECT_TRUE(wait_until([&] { return count_fds() <= fds + 4; })) << count_fds();
  EXPECT_TRUE(wait_until([&] { return count_threads() <= threads + 3; })) << count_threads();
  // Under a sanitizer freed memory is kept for a while.
  if (scaled(1) == 1) {
    EXPECT_LT(resident_kib(), memory + 40 * 1024) << "from " << memory << " KiB";
  }
}

}  // namespace
}  // namespace cfr::test
