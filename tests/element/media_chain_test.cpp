// Both chains back to back: what goes in comes out, whatever the codec and the form.
#include <gtest/gtest.h>

#include <set>

#include "chain_rig.h"
#include "support/picture.h"
#include "support/tone.h"

namespace cfr::test {
namespace {

const std::string kPicture =
    "videotestsrc is-live=true pattern=blue ! "
    "video/x-raw,format=I420,width=320,height=240,framerate=30/1 ! identity name=burn ! ";
const std::string kTone = "audiotestsrc is-live=true freq=700 volume=0.5 samplesperbuffer=480 ! ";

struct Way {
  const char* name;
  std::string source;
  const char* codec;
};

std::ostream& operator<<(std::ostream& out, const Way& way) {
  return out << way.name;
}

bool have(const std::string& launch) {
  GstElement* bin = gst_parse_bin_from_description(launch.c_str(), TRUE, nullptr);
  if (!bin) return false;
  gst_object_unref(bin);
  return true;
}

class VideoWay : public testing::TestWithParam<Way> {};

TEST_P(VideoWay, ShowsEveryPictureUndamagedAndInOrder) {
  if (!have(GetParam().source)) GTEST_SKIP() << "no encoder for it";
  const Codec* codec = codec_by_rtp_name(GetParam().codec);
  Rig rig(MediaKind::video, GetParam().source);
  rig.receive(*codec);
  rig.play();
  ASSERT_TRUE(rig.wait_for_caps());
  EXPECT_EQ(rig.sent("encoding-name"), GetParam().codec);
  EXPECT_EQ(rig.sent("media"), "video");
  EXPECT_EQ(rig.sent("clock-rate"), "90000");
  EXPECT_NE(rig.sent("ssrc"), "");
  EXPECT_NE(rig.sent("payload"), "");
  rig.connect();
  ASSERT_TRUE(rig.wait_for_frames(40)) << testing::PrintToString(rig.bus_errors());

  auto frames = rig.frames();
  for (std::size_t i = 0; i < frames.size(); ++i) {
    ASSERT_TRUE(frames[i].counter) << "picture " << i << " is damaged";
    EXPECT_EQ(frames[i].width, 320);
    if (i == 0) continue;
    EXPECT_EQ(*frames[i].counter, *frames[i - 1].counter + 1);
    EXPECT_GT(frames[i].time, frames[i - 1].time);
  }
  EXPECT_TRUE(rig.bus_errors().empty()) << rig.bus_errors()[0];
  EXPECT_EQ(rig.caps().size(), 1u);
  EXPECT_EQ(rig.first_packets, 1);
}

INSTANTIATE_TEST_SUITE_P(
    Codecs, VideoWay,
    testing::Values(Way{"raw", kPicture + "identity", "H264"},
                    Way{"h264_avc",
                        kPicture + "x264enc tune=zerolatency speed-preset=ultrafast ! "
                                   "video/x-h264,stream-format=avc ! identity",
                        "H264"},
                    Way{"h264_bytes",
                        kPicture + "x264enc tune=zerolatency speed-preset=ultrafast ! "
                                   "video/x-h264,stream-format=byte-stream ! identity",
                        "H264"},
                    Way{"h265_bytes",
                        kPicture + "x265enc tune=zerolatency speed-preset=ultrafast ! "
                                   "video/x-h265,stream-format=byte-stream ! identity",
                        "H265"},
                    Way{"h265_hvc1",
                        kPicture + "x265enc tune=zerolatency speed-preset=ultrafast ! h265parse ! "
                                   "video/x-h265,stream-format=hvc1,alignment=au ! identity",
                        "H265"},
                    Way{"vp8", kPicture + "vp8enc deadline=1 cpu-used=8", "VP8"},
                    Way{"vp9", kPicture + "vp9enc deadline=1 cpu-used=8 lag-in-frames=0", "VP9"},
                    Way{"rtp_h264",
                        kPicture + "x264enc tune=zerolatency speed-preset=ultrafast ! "
                                   "rtph264pay pt=119 ssrc=4711 config-interval=-1",
                        "H264"},
                    Way{"rtp_vp8_without_ssrc",
                        kPicture + "vp8enc deadline=1 cpu-used=8 ! rtpvp8pay pt=120 ! "
                                   "capssetter replace=true caps=\"application/x-rtp,media=video,"
                                   "encoding-name=VP8,clock-rate=90000\"",
                        "VP8"}),
    [](const auto& info) { return info.param.name; });

class AudioWay : public testing::TestWithParam<Way> {};

TEST_P(AudioWay, PlaysTheTone) {
  const Codec* codec = codec_by_rtp_name(GetParam().codec);
  Rig rig(MediaKind::audio, GetParam().source);
  rig.receive(
      *codec,
      "audioconvert ! audio/x-raw,format=S16LE,channels=1 ! fakesink sync=false async=false");
  rig.play();
  ASSERT_TRUE(rig.wait_for_caps());
  EXPECT_EQ(rig.sent("encoding-name"), GetParam().codec);
  EXPECT_EQ(rig.sent("media"), "audio");
  rig.connect();
  ASSERT_TRUE(rig.wait([&] {
    return rig.rate() && rig.samples().size() > std::size_t(rig.rate());
  })) << testing::PrintToString(rig.bus_errors());
  auto samples = rig.samples();
  samples.erase(samples.begin(), samples.begin() + rig.rate() / 4);
  EXPECT_NEAR(frequency_of(samples, rig.rate()), 700, 7);
  EXPECT_GT(share_at(samples, rig.rate(), 700), 0.9);
  EXPECT_TRUE(rig.bus_errors().empty()) << rig.bus_errors()[0];
}

INSTANTIATE_TEST_SUITE_P(
    Codecs, AudioWay,
    testing::Values(Way{"raw", kTone + "audio/x-raw,rate=44100,channels=2 ! identity", "OPUS"},
                    Way{"raw_mono", kTone + "audio/x-raw,rate=16000,channels=1 ! identity", "OPUS"},
                    Way{"raw_as_offered", kTone + "identity", "OPUS"},
                    Way{"opus", kTone + "opusenc", "OPUS"}, Way{"pcmu", kTone + "mulawenc", "PCMU"},
                    Way{"pcma", kTone + "alawenc", "PCMA"},
                    Way{"rtp_opus", kTone + "opusenc ! rtpopuspay pt=99", "OPUS"},
                    Way{"rtp_pcmu_by_number",
                        kTone + "mulawenc ! rtppcmupay ! capssetter replace=true "
                                "caps=\"application/x-rtp,media=audio,payload=0\"",
                        "PCMU"}),
    [](const auto& info) { return info.param.name; });

struct Form {
  const char* name;
  const char* sink;
  const char* caps;  // the output's begin with this
  const char* field = nullptr;
};
std::ostream& operator<<(std::ostream& out, const Form& form) {
  return out << form.name;
}

class OutputForm : public testing::TestWithParam<Form> {};

TEST_P(OutputForm, IsWhatDownstreamTakes) {
  Rig rig(MediaKind::video, kPicture + "identity");
  rig.receive(*codec_by_rtp_name("H264"), GetParam().sink);
  rig.play();
  ASSERT_TRUE(rig.wait_for_caps());
  rig.connect();
  ASSERT_TRUE(rig.wait_for_frames(20)) << testing::PrintToString(rig.bus_errors());
  EXPECT_EQ(rig.output_caps().rfind(GetParam().caps, 0), 0u) << rig.output_caps();
  if (GetParam().field) {
    EXPECT_NE(rig.output_caps().find(GetParam().field), std::string::npos);
  }
  EXPECT_TRUE(rig.bus_errors().empty()) << rig.bus_errors()[0];
}

INSTANTIATE_TEST_SUITE_P(
    Forms, OutputForm,
    testing::Values(
        Form{"anything", "fakesink sync=false async=false", "video/x-raw"},
        Form{"rgb", "capsfilter caps=video/x-raw,format=RGB ! fakesink sync=false async=false",
             "video/x-raw", "format=(string)RGB"},
        Form{"avc",
             "capsfilter caps=video/x-h264,stream-format=avc,alignment=au ! fakesink sync=false "
             "async=false",
             "video/x-h264", "stream-format=(string)avc"},
        Form{"parsed", "h264parse ! matroskamux streamable=true ! fakesink sync=false async=false",
             "video/x-matroska"},
        Form{"rtp", "capsfilter caps=application/x-rtp ! fakesink sync=false async=false",
             "application/x-rtp"}),
    [](const auto& info) { return info.param.name; });

TEST(BothChains, ScaleOddSizesToWhatEncodersTake) {
  Rig rig(MediaKind::video,
          "videotestsrc is-live=true ! video/x-raw,format=RGB,width=321,height=241,framerate=30/1 "
          "! identity");
  rig.receive(*codec_by_rtp_name("H264"));
  rig.play();
  ASSERT_TRUE(rig.wait_for_caps());
  rig.connect();
  ASSERT_TRUE(rig.wait_for_frames(5)) << testing::PrintToString(rig.bus_errors());
  EXPECT_EQ(rig.frames().back().width % 2, 0);
  EXPECT_NEAR(rig.frames().back().width, 321, 1);
  EXPECT_NEAR(rig.frames().back().height, 241, 1);
}

TEST(BothChains, FollowAChangeOfResolutionOnTheSameTrack) {
  Rig rig(MediaKind::video,
          "videotestsrc is-live=true ! capsfilter name=size "
          "caps=video/x-raw,format=I420,width=320,height=240,framerate=30/1 ! identity name=burn");
  rig.receive(*codec_by_rtp_name("H264"));
  rig.play();
  ASSERT_TRUE(rig.wait_for_caps());
  rig.connect();
  ASSERT_TRUE(rig.wait_for_frames(10));
  GstElement* size = rig.element("size");
  g_autoptr(GstCaps) larger =
      gst_caps_from_string("video/x-raw,format=I420,width=640,height=480,framerate=30/1");
  g_object_set(size, "caps", larger, nullptr);
  gst_object_unref(size);
  ASSERT_TRUE(rig.wait([&] { return rig.frames().back().width == 640; }));
  std::size_t so_far = rig.frames().size();
  ASSERT_TRUE(rig.wait_for_frames(so_far + 5));
  EXPECT_TRUE(rig.frames().back().counter);
  EXPECT_EQ(rig.caps().size(), 1u);
  EXPECT_TRUE(rig.bus_errors().empty()) << rig.bus_errors()[0];
}

TEST(BothChains, ShowAPictureAtOnceWhenConnectedLate) {
  Rig rig(MediaKind::video, kPicture + "identity");
  rig.receive(*codec_by_rtp_name("H264"));
  rig.play();
  ASSERT_TRUE(rig.wait_for_caps());
  // Well into the first group of pictures, which is 4 s long.
  ASSERT_TRUE(rig.wait([&] { return rig.burnt() > 20; }));
  rig.connect();
  const int connected = rig.burnt();
  ASSERT_TRUE(rig.wait_for_frames(1));
  ASSERT_TRUE(rig.frames()[0].counter) << "damaged";
  EXPECT_GE(*rig.frames()[0].counter, 20);
  EXPECT_LT(*rig.frames()[0].counter - connected, 5);
}

TEST(BothChains, GoOnThroughReplacedPeersWithTimeRunningForward) {
  Rig rig(MediaKind::video, kPicture + "identity");
  rig.receive(*codec_by_rtp_name("H264"));
  rig.play();
  ASSERT_TRUE(rig.wait_for_caps());
  rig.connect();
  ASSERT_TRUE(rig.wait_for_frames(3));
  // No key frame but what the sender itself makes when it is connected; by itself the encoder makes
  // one in 4 s.
  rig.peer->deaf = true;
  for (int i = 0; i < 20; ++i) {
    std::size_t so_far = rig.frames().size();
    rig.replace_peer();
    const int connected = rig.burnt();
    ASSERT_TRUE(rig.wait_for_frames(so_far + 3))
        << "after " << i << " peers " << testing::PrintToString(rig.bus_errors());
    ASSERT_TRUE(rig.frames()[so_far].counter) << "damaged";
    EXPECT_LT(*rig.frames()[so_far].counter - connected, 30);
  }
  auto frames = rig.frames();
  for (std::size_t i = 1; i < frames.size(); ++i) {
    ASSERT_TRUE(frames[i].counter) << "picture " << i;
    EXPECT_GT(*frames[i].counter, *frames[i - 1].counter);
    EXPECT_GT(frames[i].time, frames[i - 1].time);
  }
  EXPECT_EQ(rig.caps().size(), 1u);
  EXPECT_TRUE(rig.bus_errors().empty()) << rig.bus_errors()[0];
}

}  // namespace
}  // namespace cfr::test

int main(int argc, char** argv) {
  gst_init(&argc, &argv);
  g_log_set_always_fatal(GLogLevelFlags(G_LOG_LEVEL_CRITICAL | G_LOG_FATAL_MASK));
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
