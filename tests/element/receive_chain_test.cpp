// The receiving half: what comes is damaged, late or hostile, and goes to whatever is linked.
#include <gst/rtp/rtp.h>
#include <gst/video/video.h>
#include <gtest/gtest.h>

#include <cstring>

#include "chain_rig.h"
#include "support/picture.h"

namespace cfr::test {
namespace {

const std::string kPicture =
    "videotestsrc is-live=true ! video/x-raw,format=I420,width=320,height=240,framerate=30/1 ! "
    "identity name=burn ! ";

struct Stream {
  const char* codec;
  std::string source;
};
std::ostream& operator<<(std::ostream& out, const Stream& stream) {
  return out << stream.codec;
}

// Every codec, with key frames far apart: recovery has to be asked for.
std::vector<Stream> streams() {
  std::vector<Stream> all = {
      {"H264", kPicture + "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=1000"},
      {"VP8", kPicture + "vp8enc deadline=1 cpu-used=8 keyframe-max-dist=1000"},
      {"VP9", kPicture + "vp9enc deadline=1 cpu-used=8 lag-in-frames=0 keyframe-max-dist=1000"}};
  if (GstElementFactory* x265 = gst_element_factory_find("x265enc")) {
    all.push_back({"H265", kPicture + "x265enc tune=zerolatency speed-preset=ultrafast "
                                      "key-int-max=1000"});
    gst_object_unref(x265);
  }
  return all;
}

class Video : public testing::TestWithParam<Stream> {
 protected:
  const Codec& codec() { return *codec_by_rtp_name(GetParam().codec); }
};

TEST_P(Video, RecoversFromLossWithoutADamagedPicture) {
  Rig rig(MediaKind::video, GetParam().source);
  rig.receive(codec());
  rig.play();
  ASSERT_TRUE(rig.wait_for_caps());
  rig.connect();
  ASSERT_TRUE(rig.wait_for_frames(5));
  for (int i = 0; i < 3; ++i) {
    int asked = rig.peer->key_frame_requests;
    rig.peer->lose = 2;
    ASSERT_TRUE(rig.wait([&] { return rig.peer->key_frame_requests > asked; })) << "never asked";
    std::size_t so_far = rig.frames().size();
    ASSERT_TRUE(rig.wait_for_frames(so_far + 10)) << "after " << i;
  }
  auto frames = rig.frames();
  for (std::size_t i = 1; i < frames.size(); ++i) {
    ASSERT_TRUE(frames[i].counter) << "picture " << i << " is damaged";
    EXPECT_GT(*frames[i].counter, *frames[i - 1].counter);
  }
  EXPECT_TRUE(rig.bus_errors().empty()) << rig.bus_errors()[0];
}

TEST_P(Video, KeyFramesThatLostPacketsAreNotShown) {
  std::atomic<int> damaged{0};
  int packet = 0;
  guint32 picture = 0;
  Rig rig(MediaKind::video, GetParam().source);
  rig.receive(codec());
  // Each picture of several packets loses its second one, until ten have.
  rig.peer->loses = [&](GstBuffer* buffer) {
    GstRTPBuffer rtp = GST_RTP_BUFFER_INIT;
    if (!gst_rtp_buffer_map(buffer, GST_MAP_READ, &rtp)) return false;
    packet = gst_rtp_buffer_get_timestamp(&rtp) == picture ? packet + 1 : 0;
    picture = gst_rtp_buffer_get_timestamp(&rtp);
    gst_rtp_buffer_unmap(&rtp);
    return packet == 1 && damaged++ < 10;
  };
  rig.play();
  ASSERT_TRUE(rig.wait_for_caps());
  rig.connect();
  // It is asked for another, until one is whole.
  ASSERT_TRUE(rig.wait([&] {
    if (rig.frames().empty()) rig.peer->request_key_frame();
    return rig.frames().size() >= 20;
  })) << damaged;
  EXPECT_GE(damaged, 3);
  for (auto& frame : rig.frames()) EXPECT_TRUE(frame.counter) << "damaged";
  EXPECT_TRUE(rig.bus_errors().empty()) << rig.bus_errors()[0];
}

TEST_P(Video, JoinedInTheMiddleShowsNothingBeforeAKeyFrameAndAsksForIt) {
  Rig rig(MediaKind::video, GetParam().source);
  rig.receive(codec());
  rig.play();
  ASSERT_TRUE(rig.wait_for_caps());
  ASSERT_TRUE(rig.sender->connect(rig.peer->sink()));
  ASSERT_TRUE(rig.wait([&] { return rig.sender->packets() > 30; }));
  ASSERT_TRUE(rig.receiver->connect(rig.peer->src()));
  ASSERT_TRUE(rig.wait_for_frames(5)) << testing::PrintToString(rig.bus_errors());
  for (auto& frame : rig.frames()) EXPECT_TRUE(frame.counter);
  EXPECT_GE(rig.peer->key_frame_requests, 1);
  EXPECT_TRUE(rig.bus_errors().empty()) << rig.bus_errors()[0];
}

TEST_P(Video, AsksAgainWhenTheFirstRequestsAreLost) {
  std::atomic<int> lost{0};
  Rig rig(MediaKind::video, GetParam().source);
  rig.receive(codec());
  rig.play();
  ASSERT_TRUE(rig.wait_for_caps());
  ASSERT_TRUE(rig.sender->connect(rig.peer->sink()));
  ASSERT_TRUE(rig.wait([&] { return rig.sender->packets() > 30; }));
  gulong probe = gst_pad_add_probe(
      rig.peer->sink(), GST_PAD_PROBE_TYPE_EVENT_UPSTREAM,
      [](GstPad*, GstPadProbeInfo* info, gpointer lost) {
        if (!gst_video_event_is_force_key_unit(GST_PAD_PROBE_INFO_EVENT(info)))
          return GST_PAD_PROBE_OK;
        ++*static_cast<std::atomic<int>*>(lost);
        return GST_PAD_PROBE_DROP;
      },
      &lost, nullptr);
  gint64 since = g_get_monotonic_time();
  ASSERT_TRUE(rig.receiver->connect(rig.peer->src()));
  ASSERT_TRUE(rig.wait([&] { return lost > 2; }));
  EXPECT_GT(g_get_monotonic_time() - since, 1500 * 1000) << "asks too often";
  gst_pad_remove_probe(rig.peer->sink(), probe);
  ASSERT_TRUE(rig.wait_for_frames(2));
}

TEST_P(Video, IgnoresPacketsOfPaddingAlone) {
  std::atomic<int> sent{0};
  std::atomic<int> shift{0};
  Rig rig(MediaKind::video, GetParam().source);
  // Between two frames, as bandwidth probes are.
  rig.receive(codec());
  rig.peer->change = [&](GstBuffer* buffer) {
    buffer = gst_buffer_make_writable(buffer);
    GstRTPBuffer rtp = GST_RTP_BUFFER_INIT;
    gst_rtp_buffer_map(buffer, GST_MAP_READWRITE, &rtp);
    const guint16 sequence = gst_rtp_buffer_get_seq(&rtp) + guint16(shift);
    gst_rtp_buffer_set_seq(&rtp, sequence);
    const bool marker = gst_rtp_buffer_get_marker(&rtp);
    const guint32 ssrc = gst_rtp_buffer_get_ssrc(&rtp), time = gst_rtp_buffer_get_timestamp(&rtp);
    const guint8 payload = gst_rtp_buffer_get_payload_type(&rtp);
    gst_rtp_buffer_unmap(&rtp);
    if (!marker) return buffer;
    GstBuffer* padding = gst_rtp_buffer_new_allocate(0, 200, 0);
    gst_rtp_buffer_map(padding, GST_MAP_READWRITE, &rtp);
    gst_rtp_buffer_set_seq(&rtp, sequence + 1);
    gst_rtp_buffer_set_ssrc(&rtp, ssrc);
    gst_rtp_buffer_set_timestamp(&rtp, time);
    gst_rtp_buffer_set_payload_type(&rtp, payload);
    gst_rtp_buffer_unmap(&rtp);
    GST_BUFFER_PTS(padding) = GST_BUFFER_PTS(buffer);
    gst_pad_push(rig.peer->src(), buffer);
    ++sent;
    ++shift;
    return padding;
  };
  rig.play();
  ASSERT_TRUE(rig.wait_for_caps());
  rig.connect();
  ASSERT_TRUE(rig.wait_for_frames(30)) << testing::PrintToString(rig.bus_errors());
  EXPECT_GE(sent, 25);
  auto frames = rig.frames();
  for (std::size_t i = 1; i < frames.size(); ++i) {
    ASSERT_TRUE(frames[i].counter);
    EXPECT_EQ(*frames[i].counter, *frames[i - 1].counter + 1);
  }
}

TEST_P(Video, SurvivesGarbage) {
  const char* sanitizer = g_getenv("ASAN_OPTIONS");
  if (sanitizer && strstr(sanitizer, "detect_leaks=1") && g_str_equal(GetParam().codec, "H265"))
    GTEST_SKIP() << "GStreamer's own H.265 elements leak on it";
  unsigned random = 12345;
  std::atomic<bool> garbage{false};
  Rig rig(MediaKind::video, GetParam().source);
  rig.receive(codec());
  rig.peer->change = [&](GstBuffer* buffer) {
    if (!garbage) return buffer;
    buffer = gst_buffer_make_writable(buffer);
    GstMapInfo map;
    gst_buffer_map(buffer, &map, GST_MAP_READWRITE);
    for (gsize i = 12; i < map.size; ++i) {
      random = random * 1103515245 + 12345;
      if (random >> 16 & 1) map.data[i] = guint8(random >> 20);
    }
    gst_buffer_unmap(buffer, &map);
    return buffer;
  };
  rig.play();
  ASSERT_TRUE(rig.wait_for_caps());
  rig.connect();
  ASSERT_TRUE(rig.wait_for_frames(5));
  garbage = true;
  uint64_t seen = rig.receiver->packets();
  ASSERT_TRUE(rig.wait([&] { return rig.receiver->packets() > seen + 60; }));
  garbage = false;
  std::size_t so_far = rig.frames().size();
  // A decoder may not have noticed, and the first key frame may be mixed with rubbish.
  bool good = false;
  for (int i = 0; i < 5 && !good; ++i) {
    gst_pad_push_event(rig.output.get(), gst_video_event_new_upstream_force_key_unit(
                                             GST_CLOCK_TIME_NONE, TRUE, unsigned(i)));
    good = rig.signal.wait(
        [&] {
          auto frames = rig.frames();
          return frames.size() > so_far + 30 && frames.back().counter;
        },
        std::chrono::milliseconds(1500));
  }
  EXPECT_TRUE(good) << testing::PrintToString(rig.bus_errors());
  EXPECT_TRUE(rig.bus_errors().empty()) << rig.bus_errors()[0];
}

INSTANTIATE_TEST_SUITE_P(Codecs, Video, testing::ValuesIn(streams()),
                         [](const auto& info) { return std::string(info.param.codec); });

// --- requests of downstream ------------------------------------------------------------------

class Wishes : public testing::TestWithParam<std::string> {};

TEST_P(Wishes, ForKeyFramesReachThePeerEveryTimeAndSeeksDoNot) {
  Rig rig(MediaKind::video, kPicture + "identity");
  rig.receive(*codec_by_rtp_name("H264"), GetParam());
  rig.play();
  ASSERT_TRUE(rig.wait_for_caps());
  rig.connect();
  ASSERT_TRUE(rig.wait_for_frames(5));
  for (int i = 0; i < 3; ++i) {
    int before = rig.peer->key_frame_requests;
    gst_pad_push_event(rig.output.get(), gst_video_event_new_upstream_force_key_unit(
                                             GST_CLOCK_TIME_NONE, TRUE, unsigned(i)));
    EXPECT_TRUE(rig.wait([&] { return rig.peer->key_frame_requests > before; }));
  }
  EXPECT_FALSE(gst_pad_push_event(rig.output.get(),
                                  gst_event_new_seek(1, GST_FORMAT_TIME, GST_SEEK_FLAG_FLUSH,
                                                     GST_SEEK_TYPE_SET, 0, GST_SEEK_TYPE_NONE, 0)));
  EXPECT_EQ(rig.peer->seeks, 0);
  std::size_t so_far = rig.frames().size();
  EXPECT_TRUE(rig.wait_for_frames(so_far + 5));
}

TEST_P(Wishes, ForALaterKeyFrameReachThePeerThen) {
  Rig rig(MediaKind::video, kPicture + "identity");
  rig.receive(*codec_by_rtp_name("H264"), GetParam());
  rig.play();
  ASSERT_TRUE(rig.wait_for_caps());
  rig.connect();
  ASSERT_TRUE(rig.wait_for_frames(5));
  int before = rig.peer->key_frame_requests;
  GstClockTime wanted =
      gst_element_get_current_running_time(rig.receiver->bin()) + 400 * GST_MSECOND;
  EXPECT_TRUE(gst_pad_push_event(rig.output.get(),
                                 gst_video_event_new_upstream_force_key_unit(wanted, TRUE, 1)));
  ASSERT_TRUE(rig.wait([&] { return rig.peer->key_frame_requests > before; }));
  EXPECT_GE(gst_element_get_current_running_time(rig.receiver->bin()), wanted);
}

INSTANTIATE_TEST_SUITE_P(
    Forms, Wishes,
    testing::Values("fakesink sync=false async=false",
                    "capsfilter caps=video/x-h264 ! fakesink sync=false async=false",
                    "capsfilter caps=application/x-rtp ! fakesink sync=false async=false"));

// --- what downstream sees --------------------------------------------------------------------

TEST(Output, HasItsOwnStreamIdThroughAllPeers) {
  std::atomic<int> starts{0};
  Rig rig(MediaKind::video, kPicture + "identity");
  rig.stream_id = "session/camera";
  rig.receive(*codec_by_rtp_name("H264"));
  gst_pad_add_probe(
      rig.output.get(), GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM,
      [](GstPad*, GstPadProbeInfo* info, gpointer starts) {
        if (GST_EVENT_TYPE(GST_PAD_PROBE_INFO_EVENT(info)) == GST_EVENT_STREAM_START)
          ++*static_cast<std::atomic<int>*>(starts);
        return GST_PAD_PROBE_OK;
      },
      &starts, nullptr);
  rig.play();
  ASSERT_TRUE(rig.wait_for_caps());
  rig.connect();
  ASSERT_TRUE(rig.wait_for_frames(3));
  rig.replace_peer();
  std::size_t so_far = rig.frames().size();
  ASSERT_TRUE(rig.wait_for_frames(so_far + 3));
  g_autofree char* id = gst_pad_get_stream_id(rig.output.get());
  EXPECT_STREQ(id, "session/camera");
  EXPECT_EQ(starts, 1);
}

TEST(Output, CarriesTheTagsOfTheTrack) {
  Rig rig(MediaKind::video, kPicture + "identity");
  rig.receive(*codec_by_rtp_name("H264"));
  rig.receiver->set_tags(gst_tag_list_new(GST_TAG_TITLE, "camera", nullptr));
  rig.play();
  ASSERT_TRUE(rig.wait_for_caps());
  rig.connect();
  ASSERT_TRUE(rig.wait_for_frames(10));
  bool found = false;
  for (guint i = 0; GstEvent* event = gst_pad_get_sticky_event(rig.output.get(), GST_EVENT_TAG, i);
       ++i) {
    GstTagList* tags = nullptr;
    gst_event_parse_tag(event, &tags);
    g_autofree char* title = nullptr;
    if (gst_tag_list_get_string(tags, GST_TAG_TITLE, &title))
      found = found || g_str_equal(title, "camera");
    gst_event_unref(event);
  }
  EXPECT_TRUE(found);
}

TEST(Output, LatencyIsSmallAndStaysKnownWithoutAPeer) {
  Rig rig(MediaKind::video, kPicture + "identity");
  rig.receive(*codec_by_rtp_name("H264"));
  rig.play();
  ASSERT_TRUE(rig.wait_for_caps());
  rig.connect();
  ASSERT_TRUE(rig.wait_for_frames(5));
  auto latency = [&](GstClockTime* min) {
    g_autoptr(GstQuery) query = gst_query_new_latency();
    gboolean live = FALSE;
    EXPECT_TRUE(gst_pad_peer_query(rig.output.get(), query));
    gst_query_parse_latency(query, &live, min, nullptr);
    return live;
  };
  GstClockTime with = 0, without = 0;
  EXPECT_TRUE(latency(&with));
  // One frame of the source, and the little that encoder and decoder say.
  EXPECT_LE(with, 4 * GST_SECOND / 30);
  rig.receiver->disconnect();
  EXPECT_TRUE(latency(&without));
  EXPECT_EQ(with, without);
}

// A jitter buffer that was held up gives packets older than the gap that was announced meanwhile.
TEST(Output, TimeDoesNotGoBackBehindAGap) {
  std::atomic<bool> late{false};
  std::atomic<GstClockTime> end{0}, earliest{0};
  std::atomic<int> after{0};
  struct Watch {
    std::atomic<GstClockTime>&end, &earliest;
    std::atomic<int>& after;
  } watch{end, earliest, after};
  Rig rig(MediaKind::audio, "audiotestsrc is-live=true ! audio/x-raw,rate=8000 ! mulawenc");
  rig.receive(
      *codec_by_rtp_name("PCMU"),
      "audioconvert ! audio/x-raw,format=S16LE,channels=1 ! fakesink sync=false async=false");
  gst_pad_add_probe(
      rig.output.get(),
      GstPadProbeType(GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM | GST_PAD_PROBE_TYPE_BUFFER),
      [](GstPad*, GstPadProbeInfo* info, gpointer data) {
        auto& watch = *static_cast<Watch*>(data);
        if (info->type & GST_PAD_PROBE_TYPE_BUFFER) {
          if (!watch.end) return GST_PAD_PROBE_OK;
          if (watch.after++ == 0) watch.earliest = GST_BUFFER_PTS(GST_PAD_PROBE_INFO_BUFFER(info));
        } else if (GST_EVENT_TYPE(GST_PAD_PROBE_INFO_EVENT(info)) == GST_EVENT_GAP) {
          GstClockTime start, duration;
          gst_event_parse_gap(GST_PAD_PROBE_INFO_EVENT(info), &start, &duration);
          watch.end = start + duration;
        }
        return GST_PAD_PROBE_OK;
      },
      &watch, nullptr);
  rig.play();
  ASSERT_TRUE(rig.wait_for_caps());
  rig.peer->change = [&](GstBuffer* buffer) {
    if (late) {
      buffer = gst_buffer_make_writable(buffer);
      GST_BUFFER_PTS(buffer) -= std::min<GstClockTime>(GST_BUFFER_PTS(buffer), 2 * GST_SECOND);
    }
    return buffer;
  };
  rig.connect();
  ASSERT_TRUE(rig.wait([&] { return rig.samples().size() > 2000; }));
  rig.peer->lose = 1 << 20;
  auto announced = [&] { return end > 0; };
  for (int looks = 0; looks < 500 && !announced(); ++looks) {
    rig.receiver->fill_gap();
    rig.signal.wait(announced, std::chrono::milliseconds(20));
  }
  ASSERT_TRUE(announced());
  late = true;
  rig.peer->lose = 0;
  ASSERT_TRUE(rig.wait([&] { return after > 10; }));
  EXPECT_GE(earliest, end) << "the first buffer after the gap lies before its end";
}

TEST(Output, UnlinkedCostsNothingAndCanBecomeAnythingLater) {
  Rig rig(MediaKind::video, kPicture + "identity");
  rig.receive(*codec_by_rtp_name("H264"));
  rig.play();
  ASSERT_TRUE(rig.wait_for_caps());
  rig.connect();
  ASSERT_TRUE(rig.wait_for_frames(3));

  g_autoptr(GstPad) src = gst_element_get_static_pad(rig.receiver->bin(), "src");
  g_autoptr(GstPad) entry = gst_pad_get_peer(src);
  gst_pad_unlink(src, entry);
  rig.receiver->unconfigure();
  g_autoptr(GstCaps) possible = gst_pad_query_caps(src, nullptr);
  for (const char* form : {"video/x-raw", "video/x-h264", "application/x-rtp"}) {
    g_autoptr(GstCaps) caps = gst_caps_from_string(form);
    EXPECT_TRUE(gst_caps_can_intersect(possible, caps)) << form;
  }
  uint64_t seen = rig.receiver->packets();
  ASSERT_TRUE(rig.wait([&] { return rig.receiver->packets() > seen + 30; }));
  std::size_t so_far = rig.frames().size();

  ASSERT_EQ(gst_pad_link(src, entry), GST_PAD_LINK_OK);
  g_autoptr(GstCaps) any = gst_caps_new_any();
  ASSERT_TRUE(rig.receiver->configure(any));
  ASSERT_TRUE(rig.wait_for_frames(so_far + 5));
  for (auto& frame : rig.frames()) EXPECT_TRUE(frame.counter);
  EXPECT_TRUE(rig.bus_errors().empty()) << rig.bus_errors()[0];
}

TEST(Output, ThatTakesNothingOfOursIsAnError) {
  ReceiveChain chain(*codec_by_rtp_name("H264"), nullptr);
  auto bin = gref<GstElement>::sink(chain.bin());
  g_autoptr(GstCaps) text = gst_caps_from_string("text/x-raw");
  auto output = chain.configure(text);
  ASSERT_FALSE(output);
  EXPECT_EQ(output.error().kind, ErrorKind::peer);
  EXPECT_NE(output.error().message.find("text/x-raw"), std::string::npos);
}

TEST(Output, ThatRefusesThisPictureIsReportedOnceAndHurtsNobody) {
  Rig rig(MediaKind::video, kPicture + "identity");
  rig.receive(*codec_by_rtp_name("H264"),
              "capsfilter caps=video/x-raw,width=77 ! fakesink sync=false async=false");
  rig.play();
  ASSERT_TRUE(rig.wait_for_caps());
  rig.connect();
  ASSERT_TRUE(rig.wait([&] { return !rig.errors().empty(); }));
  uint64_t sent = rig.sender->packets();
  ASSERT_TRUE(rig.wait([&] { return rig.sender->packets() > sent + 30; }));
  EXPECT_EQ(rig.errors().size(), 1u);
  EXPECT_TRUE(rig.bus_errors().empty()) << rig.bus_errors()[0];
}

TEST(Output, FailingDownstreamHurtsNobody) {
  for (GstFlowReturn flow : {GST_FLOW_ERROR, GST_FLOW_EOS, GST_FLOW_FLUSHING}) {
    std::atomic<int> refused{0};
    struct Refusal {
      std::atomic<int>& count;
      GstFlowReturn flow;
    } refusal{refused, flow};
    Rig rig(MediaKind::video, kPicture + "identity");
    rig.receive(*codec_by_rtp_name("H264"));
    gst_pad_add_probe(
        rig.output.get(), GST_PAD_PROBE_TYPE_BUFFER,
        [](GstPad*, GstPadProbeInfo* info, gpointer data) {
          auto* refusal = static_cast<Refusal*>(data);
          ++refusal->count;
          gst_buffer_unref(GST_PAD_PROBE_INFO_BUFFER(info));
          GST_PAD_PROBE_INFO_DATA(info) = nullptr;
          GST_PAD_PROBE_INFO_FLOW_RETURN(info) = refusal->flow;
          return GST_PAD_PROBE_HANDLED;
        },
        &refusal, nullptr);
    rig.play();
    ASSERT_TRUE(rig.wait_for_caps());
    rig.connect();
    ASSERT_TRUE(rig.wait([&] { return refused > 0; }));
    uint64_t sent = rig.sender->packets();
    EXPECT_TRUE(rig.wait([&] { return rig.sender->packets() > sent + 30; }));
    EXPECT_TRUE(rig.bus_errors().empty()) << rig.bus_errors()[0];
  }
}

// --- the end ---------------------------------------------------------------------------------

TEST(End, ComesAfterTheLastPicture) {
  Rig rig(MediaKind::video, kPicture + "identity");
  rig.receive(*codec_by_rtp_name("H264"));
  rig.play();
  ASSERT_TRUE(rig.wait_for_caps());
  rig.connect();
  ASSERT_TRUE(rig.wait_for_frames(5));
  rig.receiver->end();
  ASSERT_TRUE(rig.wait([&] { return rig.output_eos > 0; }));
  EXPECT_TRUE(rig.bus_errors().empty()) << rig.bus_errors()[0];
}

TEST(End, IsToldWhenDownstreamWantsNoMore) {
  Rig rig(MediaKind::video, kPicture + "identity");
  rig.receive(*codec_by_rtp_name("H264"), "fakesink sync=false async=false num-buffers=5");
  rig.play();
  ASSERT_TRUE(rig.wait_for_caps());
  rig.connect();
  ASSERT_TRUE(rig.wait([&] { return rig.output_eos > 0; }));
  EXPECT_TRUE(rig.bus_errors().empty()) << rig.bus_errors()[0];
}

// What is linked after that is another's, and gets the track from there on.
TEST(End, OfDownstreamIsNotThatOfWhatIsLinkedNext) {
  for (const char* takes : {"video/x-raw", "video/x-h264"}) {
    Rig rig(MediaKind::video, kPicture + "identity");
    rig.receive(*codec_by_rtp_name("H264"), std::string("capsfilter caps=") + takes +
                                                " ! fakesink sync=false async=false num-buffers=5");
    rig.play();
    ASSERT_TRUE(rig.wait_for_caps());
    rig.connect();
    ASSERT_TRUE(rig.wait([&] { return rig.output_eos > 0; }));
    g_autoptr(GstPad) src = gst_element_get_static_pad(rig.receiver->bin(), "src");
    g_autoptr(GstPad) before = gst_pad_get_peer(src);
    gst_pad_unlink(src, before);
    rig.receiver->unconfigure();
    GstElement* next =
        gst_parse_bin_from_description((std::string("capsfilter caps=") + takes +
                                        " ! identity name=seen ! fakesink sync=false async=false")
                                           .c_str(),
                                       TRUE, nullptr);
    gst_bin_add(GST_BIN(rig.pipeline.get()), next);
    g_autoptr(GstElement) seen = gst_bin_get_by_name(GST_BIN(next), "seen");
    std::atomic<int> buffers{0};
    g_signal_connect(
        seen, "handoff",
        G_CALLBACK(+[](GstElement*, GstBuffer*, std::atomic<int>* buffers) { ++*buffers; }),
        &buffers);
    g_autoptr(GstPad) entry = gst_element_get_static_pad(next, "sink");
    gst_element_sync_state_with_parent(next);
    ASSERT_EQ(gst_pad_link(src, entry), GST_PAD_LINK_OK);
    g_autoptr(GstCaps) accepted = gst_pad_query_caps(entry, nullptr);
    ASSERT_TRUE(rig.receiver->configure(accepted));
    EXPECT_TRUE(rig.wait([&] { return buffers > 5; })) << takes << " " << buffers;
    EXPECT_TRUE(rig.bus_errors().empty()) << rig.bus_errors()[0];
    rig.receiver->disconnect();
    gst_element_set_state(rig.pipeline.get(), GST_STATE_NULL);
  }
}

TEST(End, OfATrackThatNeverBeganIsNoError) {
  Rig rig(MediaKind::video, kPicture + "identity");
  rig.receive(*codec_by_rtp_name("H264"));
  rig.play();
  ASSERT_TRUE(rig.wait_for_caps());
  rig.receiver->end();
  ASSERT_TRUE(rig.wait([&] { return rig.output_eos > 0; }));
  EXPECT_TRUE(rig.bus_errors().empty()) << rig.bus_errors()[0];
}

TEST(End, OfThePeerIsNotTheEndOfTheTrack) {
  Rig rig(MediaKind::video, kPicture + "identity");
  rig.receive(*codec_by_rtp_name("H264"));
  rig.play();
  ASSERT_TRUE(rig.wait_for_caps());
  rig.connect();
  ASSERT_TRUE(rig.wait_for_frames(5));
  rig.sender->disconnect();
  gst_pad_push_event(rig.peer->src(), gst_event_new_eos());
  rig.replace_peer();
  std::size_t so_far = rig.frames().size();
  ASSERT_TRUE(rig.wait_for_frames(so_far + 5));
  EXPECT_EQ(rig.output_eos, 0);
}

}  // namespace
}  // namespace cfr::test

int main(int argc, char** argv) {
  gst_init(&argc, &argv);
  g_log_set_always_fatal(GLogLevelFlags(G_LOG_LEVEL_CRITICAL | G_LOG_FATAL_MASK));
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
