// Publishing and playing through the local SFU: what comes out is what went in.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <mutex>

#include "loop/content.h"
#include "loop/harness.h"

namespace cfr::test {
namespace {

// 320x240 at 30 frames a second, with a place to burn the counter into.
constexpr char kBall[] =
    "videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,width=320,height=240,"
    "framerate=30/1 ! identity name=burn ";
constexpr char kA4[] = "audiotestsrc is-live=true freq=440 volume=0.5 ! audio/x-raw,rate=48000 ";

struct VideoCase {
  const char* name;
  const char* encode;  // between the raw picture and the sink
};

std::string case_name(const testing::TestParamInfo<VideoCase>& info) {
  return info.param.name;
}

class PublishVideo : public testing::TestWithParam<VideoCase> {};

TEST_P(PublishVideo, arrives_frame_by_frame) {
  Sfu sfu;
  Pipeline publisher(std::string(kBall) + GetParam().encode + " ! cfrealtimesink name=s");
  burn_counter(publisher, "burn");
  publisher.play();
  std::string session = publisher.live_session();
  ASSERT_FALSE(session.empty());

  Pipeline player("cfrealtimesrc name=r session-id=" + session +
                  " ! video/x-raw ! videoconvert ! video/x-raw,format=I420 ! fakesink name=out "
                  "sync=false");
  Frames frames(player, "out");
  player.play();
  EXPECT_TRUE(player.until([&] { return frames.count() >= 60; }, 20000))
      << frames.count() << " frames, " << frames.unreadable() << " unreadable";
  EXPECT_EQ(frames.backwards(), 0u);
  EXPECT_LE(frames.unreadable(), 2u);
  EXPECT_EQ(frames.width(), 320);
  EXPECT_EQ(frames.height(), 240);
  EXPECT_TRUE(player.errors.empty()) << player.errors[0].text << player.errors[0].debug;
  EXPECT_TRUE(publisher.errors.empty());
}

INSTANTIATE_TEST_SUITE_P(
    Codecs, PublishVideo,
    testing::Values(
        VideoCase{"raw", ""},
        VideoCase{"h264_byte_stream",
                  "! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=60 ! "
                  "video/x-h264,stream-format=byte-stream,profile=constrained-baseline"},
        VideoCase{"h264_avc",
                  "! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=60 ! "
                  "video/x-h264,profile=constrained-baseline ! h264parse ! "
                  "video/x-h264,stream-format=avc"},
        VideoCase{"vp8", "! vp8enc deadline=1 keyframe-max-dist=60"},
        VideoCase{"vp9", "! vp9enc deadline=1 cpu-used=8 keyframe-max-dist=60"},
        VideoCase{"rtp_vp8",
                  "! vp8enc deadline=1 keyframe-max-dist=60 ! rtpvp8pay mtu=1200 "
                  "picture-id-mode=15-bit"},
        VideoCase{"rtp_h264",
                  "! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=60 ! "
                  "video/x-h264,profile=constrained-baseline ! rtph264pay config-interval=-1 "
                  "mtu=1200 aggregate-mode=zero-latency"}),
    case_name);

class PublishAudio : public testing::TestWithParam<VideoCase> {};

TEST_P(PublishAudio, keeps_its_pitch) {
  Sfu sfu;
  Pipeline publisher(std::string(kA4) + GetParam().encode + " ! cfrealtimesink name=s");
  publisher.play();
  std::string session = publisher.live_session();
  ASSERT_FALSE(session.empty());

  Pipeline player("cfrealtimesrc session-id=" + session +
                  " ! audioconvert ! audioresample ! "
                  "audio/x-raw,format=S16LE,rate=48000,channels=1 ! fakesink name=out sync=false");
  Tone tone(player, "out");
  player.play();
  EXPECT_TRUE(player.until([&] { return tone.frequency() > 435 && tone.frequency() < 445; }, 15000))
      << tone.frequency() << " Hz";
  EXPECT_TRUE(player.errors.empty()) << player.errors[0].text;
}

INSTANTIATE_TEST_SUITE_P(
    Codecs, PublishAudio,
    testing::Values(VideoCase{"raw", ""}, VideoCase{"opus", "! audioconvert ! opusenc"},
                    VideoCase{"mulaw",
                              "! audioconvert ! audioresample ! audio/x-raw,rate=8000,channels=1 ! "
                              "mulawenc"},
                    VideoCase{"alaw",
                              "! audioconvert ! audioresample ! audio/x-raw,rate=8000,channels=1 ! "
                              "alawenc"},
                    VideoCase{"rtp_opus", "! audioconvert ! opusenc ! rtpopuspay"}),
    case_name);

TEST(PublishPlay, sends_audio_and_video_of_one_sink) {
  Sfu sfu;
  Pipeline publisher(std::string("cfrealtimesink name=s ") + kBall + " ! s. " + kA4 + " ! s.");
  burn_counter(publisher, "burn");
  publisher.play();
  std::string session = publisher.live_session("s", 2);
  Pipeline player("cfrealtimesrc name=r session-id=" + session +
                  " r. ! video/x-raw ! videoconvert ! video/x-raw,format=I420 ! fakesink name=v "
                  "sync=false "
                  "r. ! audio/x-raw ! audioconvert ! audioresample ! "
                  "audio/x-raw,format=S16LE,rate=48000,channels=1 ! fakesink name=a sync=false");
  Frames frames(player, "v");
  Tone tone(player, "a");
  player.play();
  EXPECT_TRUE(player.until(
      [&] { return frames.count() >= 30 && tone.frequency() > 435 && tone.frequency() < 445; },
      15000))
      << frames.count() << " frames, " << tone.frequency() << " Hz";
  EXPECT_EQ(frames.backwards(), 0u);
}

TEST(PublishPlay, gives_encoded_video_to_a_parser) {
  Sfu sfu;
  Pipeline publisher(std::string(kBall) + " ! cfrealtimesink name=s");
  publisher.play();
  std::string session = publisher.live_session();
  Pipeline player("cfrealtimesrc session-id=" + session +
                  " ! h264parse ! video/x-h264,stream-format=avc,alignment=au ! fakesink name=out "
                  "sync=false");
  Buffers buffers(player, "out");
  player.play();
  EXPECT_TRUE(player.until([&] { return buffers.count() >= 30; }, 15000)) << buffers.count();
  EXPECT_NE(buffers.caps().find("width=(int)320"), std::string::npos) << buffers.caps();
}

TEST(PublishPlay, gives_rtp_to_who_takes_rtp) {
  Sfu sfu;
  Pipeline publisher(std::string(kBall) + " ! vp8enc deadline=1 ! cfrealtimesink name=s");
  publisher.play();
  std::string session = publisher.live_session();
  Pipeline player("cfrealtimesrc session-id=" + session +
                  " ! application/x-rtp ! fakesink name=out sync=false");
  Buffers buffers(player, "out");
  player.play();
  EXPECT_TRUE(player.until([&] { return buffers.count() >= 30; }, 15000)) << buffers.count();
  EXPECT_NE(buffers.caps().find("VP8"), std::string::npos) << buffers.caps();
}

TEST(PublishPlay, what_the_next_element_cannot_take_is_an_error_that_names_the_track) {
  Sfu sfu;
  Pipeline publisher(std::string(kBall) + " ! cfrealtimesink name=s");
  publisher.play();
  std::string session = publisher.live_session();
  Pipeline player("cfrealtimesrc session-id=" + session +
                  " ! video/x-raw,width=100,height=100 ! fakesink");
  player.play();
  ASSERT_TRUE(player.until_error());
  EXPECT_EQ(player.errors[0].domain, GST_STREAM_ERROR);
  EXPECT_EQ(player.errors[0].code, GST_STREAM_ERROR_FAILED);
  EXPECT_NE(player.errors[0].details.find("track=(string)video_0"), std::string::npos)
      << player.errors[0].details;
}

// Takes what comes from the pad's source away first: not linked, it would end the pipeline.
void release(GstElement* sink, GstPad* pad) {
  g_autoptr(GstPad) peer = gst_pad_get_peer(pad);
  gst_pad_add_probe(
      peer, GST_PAD_PROBE_TYPE_BUFFER,
      [](GstPad*, GstPadProbeInfo*, gpointer) { return GST_PAD_PROBE_DROP; }, nullptr, nullptr);
  gst_pad_unlink(peer, pad);
  gst_element_release_request_pad(sink, pad);
}

TEST(PublishPlay, a_track_name_is_published_once_and_a_released_pad_closes_its_track) {
  Sfu sfu;
  Pipeline publisher(std::string("cfrealtimesink name=s video_0::track-name=cam "
                                 "video_1::track-name=cam ") +
                     kBall + " ! s.video_0 " +
                     "videotestsrc is-live=true ! video/x-raw,width=64,height=64 ! s.video_1");
  publisher.play();
  ASSERT_FALSE(publisher.live_session().empty());
  ASSERT_TRUE(publisher.until([&] { return !publisher.warnings.empty(); }));
  EXPECT_EQ(publisher.warnings[0].domain, GST_RESOURCE_ERROR);
  EXPECT_EQ(publisher.warnings[0].code, GST_RESOURCE_ERROR_SETTINGS);
  EXPECT_NE(publisher.warnings[0].text.find("track name cam"), std::string::npos)
      << publisher.warnings[0].text;
  EXPECT_EQ(publisher.tracks_live, 1u);

  auto sink = publisher.element("s");
  for (const char* name : {"video_0", "video_1"}) {
    g_autoptr(GstPad) pad = gst_element_get_static_pad(sink.get(), name);
    // A name that is set now is that of the next track.
    g_object_set(pad, "track-name", "later", nullptr);
    release(sink.get(), pad);
  }
  EXPECT_TRUE(publisher.until([&] { return publisher.tracks_closed == 1; }));
  EXPECT_TRUE(publisher.errors.empty()) << publisher.errors[0].text;
}

TEST(PublishPlay, a_sink_whose_last_running_pad_is_released_has_ended) {
  Sfu sfu;
  Pipeline publisher(std::string("cfrealtimesink name=s ") + kA4 + "! s.audio_0 " + kA4 +
                     "! s.audio_1");
  publisher.play();
  ASSERT_FALSE(publisher.live_session("s", 2).empty());
  auto sink = publisher.element("s");
  g_autoptr(GstPad) first = gst_element_get_static_pad(sink.get(), "audio_0");
  g_autoptr(GstPad) second = gst_element_get_static_pad(sink.get(), "audio_1");
  gst_pad_send_event(first, gst_event_new_eos());
  ASSERT_TRUE(publisher.until([&] { return publisher.tracks_closed == 1; }));
  EXPECT_FALSE(publisher.eos);
  release(sink.get(), second);
  EXPECT_TRUE(publisher.until_eos());
  EXPECT_TRUE(publisher.until([&] { return publisher.tracks_closed == 2; }));
}

TEST(PublishPlay, pads_come_one_by_one_and_belong_together) {
  Sfu sfu;
  Pipeline publisher(std::string("cfrealtimesink name=s ") + kBall + " ! s. " + kA4 + " ! s.");
  publisher.play();
  std::string session = publisher.live_session("s", 2);
  Pipeline player("cfrealtimesrc name=r session-id=" + session);
  struct Seen {
    std::mutex mutex;
    std::condition_variable changed;
    int inside = 0, at_once = 0, all = 0;
    std::atomic<int> done{0};
  } seen;
  auto source = player.element("r");
  g_signal_connect(source.get(), "pad-added", G_CALLBACK(+[](GstElement*, GstPad* pad, Seen* seen) {
                     GstElement* sink = gst_element_factory_make("fakesink", nullptr);
                     g_object_set(sink, "async", FALSE, "sync", FALSE, nullptr);
                     g_autoptr(GstObject) source = gst_pad_get_parent(pad);
                     g_autoptr(GstObject) pipeline = gst_object_get_parent(source);
                     gst_bin_add(GST_BIN(pipeline), sink);
                     gst_element_sync_state_with_parent(sink);
                     g_autoptr(GstPad) entry = gst_element_get_static_pad(sink, "sink");
                     gst_pad_link(pad, entry);
                     std::unique_lock lock(seen->mutex);
                     seen->at_once = std::max(seen->at_once, ++seen->inside);
                     ++seen->all;
                     seen->changed.notify_all();
                     // The other one has its chance to come in between.
                     seen->changed.wait_for(lock, std::chrono::milliseconds(200),
                                            [&] { return seen->all == 2; });
                     --seen->inside;
                     ++seen->done;
                   }),
                   &seen);
  player.play();
  ASSERT_TRUE(player.until([&] { return seen.done == 2; }));
  EXPECT_EQ(seen.at_once, 1);
  guint groups[2] = {1, 2};
  auto group = [&](const char* name, guint* id) {
    g_autoptr(GstPad) pad = gst_element_get_static_pad(source.get(), name);
    g_autoptr(GstEvent) event = gst_pad_get_sticky_event(pad, GST_EVENT_STREAM_START, 0);
    return event && gst_event_parse_group_id(event, id);
  };
  EXPECT_TRUE(
      player.until([&] { return group("video_0", &groups[0]) && group("audio_0", &groups[1]); }));
  EXPECT_EQ(groups[0], groups[1]);
}

TEST(PublishPlay, an_unlinked_pad_hurts_nobody) {
  Sfu sfu;
  Pipeline publisher(std::string("cfrealtimesink name=s ") + kBall + " ! s. " + kA4 + " ! s.");
  burn_counter(publisher, "burn");
  publisher.play();
  std::string session = publisher.live_session("s", 2);
  Pipeline player("cfrealtimesrc session-id=" + session +
                  " ! videoconvert ! video/x-raw,format=I420 ! fakesink name=out sync=false");
  Frames frames(player, "out");
  player.play();
  EXPECT_TRUE(player.until([&] { return frames.count() >= 90; }, 20000)) << frames.count();
  EXPECT_TRUE(player.errors.empty()) << player.errors[0].text;
}

TEST(PublishPlay, a_player_started_first_waits_and_plays) {
  Sfu sfu;
  // A session without tracks is all there is yet.
  Pipeline publisher(std::string("cfrealtimesink name=s ") + kA4 + " ! s.");
  publisher.play();
  std::string session = publisher.live_session();
  Pipeline player("cfrealtimesrc name=r tracks=camera session-id=" + session +
                  " ! videoconvert ! video/x-raw,format=I420 ! fakesink name=out sync=false");
  Frames frames(player, "out");
  player.play();
  // It has asked and was told to come back.
  EXPECT_TRUE(player.until([&] { return sfu.count("not_found_track_error") > 0; }));

  auto sink = publisher.element("s");
  g_autoptr(GError) error = nullptr;
  GstElement* late =
      gst_parse_bin_from_description((std::string(kBall) + "! queue").c_str(), TRUE, &error);
  ASSERT_TRUE(late) << error->message;
  gst_bin_add(GST_BIN(publisher.get()), late);
  burn_counter(publisher, "burn");
  GstPad* pad = gst_element_request_pad_simple(sink.get(), "video_%u");
  g_object_set(pad, "track-name", "camera", nullptr);
  g_autoptr(GstPad) src = gst_element_get_static_pad(late, "src");
  ASSERT_EQ(gst_pad_link(src, pad), GST_PAD_LINK_OK);
  gst_object_unref(pad);
  gst_element_sync_state_with_parent(late);
  EXPECT_TRUE(player.until([&] { return frames.count() >= 30; }, 20000)) << frames.count();
}

TEST(PublishPlay, a_late_joiner_sees_a_picture_at_once) {
  Sfu sfu;
  // No key frame comes by itself for a long time.
  Pipeline publisher(std::string(kBall) +
                     " ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=3000 ! "
                     "cfrealtimesink name=s");
  burn_counter(publisher, "burn");
  publisher.play();
  std::string session = publisher.live_session();
  Pipeline first("cfrealtimesrc session-id=" + session +
                 " ! videoconvert ! video/x-raw,format=I420 ! fakesink name=out sync=false");
  Frames early(first, "out");
  first.play();
  ASSERT_TRUE(first.until([&] { return early.count() >= 60; }, 20000));
  Pipeline second("cfrealtimesrc session-id=" + session +
                  " ! videoconvert ! video/x-raw,format=I420 ! fakesink name=out sync=false");
  Frames late(second, "out");
  second.play();
  EXPECT_TRUE(second.until([&] { return late.count() >= 30; }, 15000)) << late.count();
}

TEST(PublishPlay, tracks_come_and_go_while_playing) {
  Sfu sfu;
  Pipeline publisher(std::string("cfrealtimesink name=s ") + kBall + " ! s.video_0 " + kA4 +
                     " ! queue name=aq ! s.audio_0");
  burn_counter(publisher, "burn");
  publisher.play();
  std::string session = publisher.live_session("s", 2);
  Pipeline player("cfrealtimesrc name=r session-id=" + session +
                  " r. ! video/x-raw ! videoconvert ! video/x-raw,format=I420 ! fakesink name=v "
                  "sync=false async=false "
                  "r. ! audio/x-raw ! fakesink name=a sync=false async=false");
  Frames frames(player, "v");
  Buffers audio(player, "a");
  player.play();
  ASSERT_TRUE(player.until([&] { return frames.count() >= 15 && audio.count() >= 15; }, 15000));

  // The audio pad goes: its track ends with EOS, the video plays on.
  auto sink = publisher.element("s");
  auto queue = publisher.element("aq");
  g_autoptr(GstPad) queue_src = gst_element_get_static_pad(queue.get(), "src");
  g_autoptr(GstPad) audio_sink = gst_pad_get_peer(queue_src);
  gst_pad_add_probe(
      queue_src, GST_PAD_PROBE_TYPE_BLOCK_DOWNSTREAM,
      [](GstPad* pad, GstPadProbeInfo*, gpointer) {
        if (g_autoptr(GstPad) peer = gst_pad_get_peer(pad)) gst_pad_unlink(pad, peer);
        return GST_PAD_PROBE_DROP;
      },
      nullptr, nullptr);
  ASSERT_TRUE(publisher.until([&] { return !gst_pad_is_linked(queue_src); }));
  gst_element_release_request_pad(sink.get(), audio_sink);
  EXPECT_TRUE(player.until([&] { return audio.eos() > 0; }, 15000));
  unsigned before = frames.count();
  EXPECT_TRUE(player.until([&] { return frames.count() >= before + 60; }, 15000));
  EXPECT_EQ(frames.eos(), 0u);
  EXPECT_TRUE(player.errors.empty()) << player.errors[0].text;

  // Another track comes on the live connection.
  std::atomic<unsigned> pads{0};
  auto source = player.element("r");
  g_signal_connect_swapped(source.get(), "pad-added",
                           G_CALLBACK(+[](std::atomic<unsigned>* count, GstPad*) { ++*count; }),
                           &pads);
  GstElement* tone = gst_parse_bin_from_description(
      "audiotestsrc is-live=true freq=880 ! audio/x-raw,rate=48000", TRUE, nullptr);
  gst_bin_add(GST_BIN(publisher.get()), tone);
  g_autoptr(GstPad) tone_src = gst_element_get_static_pad(tone, "src");
  GstPad* fresh = gst_element_request_pad_simple(sink.get(), "audio_%u");
  ASSERT_EQ(gst_pad_link(tone_src, fresh), GST_PAD_LINK_OK);
  gst_object_unref(fresh);
  gst_element_sync_state_with_parent(tone);
  EXPECT_TRUE(player.until([&] { return pads >= 1; }, 20000));
  before = frames.count();
  EXPECT_TRUE(player.until([&] { return frames.count() >= before + 30; }, 15000));
}

TEST(PublishPlay, sixteen_tracks_in_one_sink) {
  Sfu sfu;
  std::string launch = "cfrealtimesink name=s ";
  for (int i = 0; i < 16; ++i)
    launch += "audiotestsrc is-live=true freq=" + std::to_string(300 + 100 * i) +
              " ! audio/x-raw,rate=8000,channels=1 ! mulawenc ! s.audio_" + std::to_string(i) + " ";
  Pipeline publisher(launch);
  publisher.play();
  std::string session = publisher.live_session("s", 16, 20000);
  std::string play = "cfrealtimesrc name=r session-id=" + session + " ";
  Pipeline player("cfrealtimesrc name=r session-id=" + session +
                  " tracks=audio_3 ! audioconvert ! audioresample ! "
                  "audio/x-raw,format=S16LE,rate=48000,channels=1 ! fakesink name=out sync=false");
  Tone tone(player, "out");
  player.play();
  EXPECT_TRUE(player.until([&] { return tone.frequency() > 590 && tone.frequency() < 610; }, 20000))
      << tone.frequency();
}

TEST(PublishPlay, eos_closes_the_tracks_and_ends_both_sides) {
  Sfu sfu;
  Pipeline publisher(
      "videotestsrc is-live=true ! video/x-raw,width=320,height=240,"
      "framerate=30/1 ! cfrealtimesink name=s");
  publisher.play();
  std::string session = publisher.live_session();
  Pipeline player("cfrealtimesrc session-id=" + session + " ! fakesink name=out sync=false");
  Buffers buffers(player, "out");
  player.play();
  ASSERT_TRUE(player.until([&] { return buffers.count() > 0; }, 20000));
  gst_element_send_event(publisher.get(), gst_event_new_eos());
  EXPECT_TRUE(publisher.until_eos(15000));
  EXPECT_TRUE(player.until_eos(15000)) << buffers.count() << " buffers";
  EXPECT_EQ(sfu.count(session + "/tracks/close"), 1u);
}

TEST(PublishPlay, a_file_is_published_from_its_beginning) {
  Sfu sfu;
  // Not live: it waits for the connection and then runs at the pace of the clock.
  Pipeline publisher(
      "videotestsrc num-buffers=150 ! video/x-raw,format=I420,width=320,height=240,framerate=30/1 "
      "! "
      "identity name=burn ! vp8enc deadline=1 ! cfrealtimesink name=s");
  burn_counter(publisher, "burn");
  publisher.play();
  std::string session = publisher.live_session();
  Pipeline player("cfrealtimesrc session-id=" + session +
                  " ! videoconvert ! video/x-raw,format=I420 ! fakesink name=out sync=false");
  Frames frames(player, "out");
  player.play();
  EXPECT_TRUE(player.until([&] { return frames.count() >= 60; }, 20000)) << frames.count();
  EXPECT_TRUE(publisher.until_eos(15000));
}

TEST(PublishPlay, plays_several_publishers_over_one_connection) {
  Sfu sfu;
  Pipeline one(std::string(kA4) + " ! cfrealtimesink name=s");
  Pipeline two("audiotestsrc is-live=true freq=880 ! cfrealtimesink name=s");
  one.play();
  two.play();
  std::string first = one.live_session(), second = two.live_session();
  Pipeline player("cfrealtimesrc name=r tracks=" + first + "/audio_0," + second +
                  "/audio_0 r.audio_0 ! fakesink name=x async=false r.audio_1 ! fakesink name=y "
                  "async=false");
  Buffers x(player, "x"), y(player, "y");
  player.play();
  EXPECT_TRUE(player.until([&] { return x.count() > 20 && y.count() > 20; }, 15000))
      << x.count() << " and " << y.count();
  EXPECT_EQ(sfu.count("/sessions/new"), 3u);
}

// It would never accept again if it once ran out of descriptors.
TEST(LocalSfu, outlives_more_connections_than_it_has_descriptors) {
  Sfu sfu;
  const rlimit few{128, 128};
  ASSERT_EQ(prlimit(sfu.pid(), RLIMIT_NOFILE, &few, nullptr), 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(uint16_t(sfu.port()));
  inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
  const std::string stats = sfu.base_url() + "/debug/stats";
  std::vector<int> connections;
  const timeval patience{5, 0};
  for (int i = 0; i < 200; ++i) {
    connections.push_back(socket(AF_INET, SOCK_STREAM, 0));
    setsockopt(connections.back(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    ASSERT_EQ(connect(connections.back(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0)
        << "after " << i;
    if (i % 5 == 0) http("GET", stats);  // those before it have been accepted
  }
  // What is refused is closed at once; the rest says nothing, and stays.
  char byte;
  EXPECT_TRUE(wait_until([&] { return recv(connections.back(), &byte, 1, MSG_DONTWAIT) == 0; }));
  EXPECT_EQ(recv(connections.front(), &byte, 1, MSG_DONTWAIT), -1);
  for (int connection : connections) close(connection);
  EXPECT_TRUE(wait_until([&] { return http("GET", stats).status == 200; }));
  // Sessions leave it some, too.
  int sessions = 0, status = 201;
  for (; status == 201 && sessions < 128; ++sessions)
    status = http("POST", sfu.api_url() + "/apps/demo/sessions/new").status;
  EXPECT_EQ(status, 503);
  EXPECT_GT(sessions, 1);
  EXPECT_EQ(http("GET", stats).status, 200);
}

}  // namespace
}  // namespace cfr::test
