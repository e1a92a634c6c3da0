// The sending half against a peer that fails, blocks and goes.
#include <gst/check/gstharness.h>
#include <gst/rtp/rtp.h>
#include <gst/video/video.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "chain_rig.h"
#include "media/rtp_input.h"
#include "support/picture.h"

namespace cfr::test {
namespace {

const std::string kLive =
    "videotestsrc is-live=true ! video/x-raw,format=I420,width=320,height=240,framerate=30/1 ! "
    "identity name=burn ! identity";
const std::string kFile =
    "videotestsrc num-buffers=45 ! video/x-raw,format=I420,width=320,height=240,framerate=30/1 ! "
    "identity name=burn ! identity";

const Codec& h264() {
  return *codec_by_rtp_name("H264");
}

// Time of the pipeline's clock since it plays.
GstClockTime running_time(Rig& rig) {
  g_autoptr(GstClock) clock = gst_element_get_clock(rig.pipeline.get());
  return clock ? gst_clock_get_time(clock) - gst_element_get_base_time(rig.pipeline.get()) : 0;
}

// --- packets ---------------------------------------------------------------------------------

struct Packet {
  int payload = -1;
  bool marker = false;
  uint32_t ssrc = 0;
  uint16_t sequence = 0;
  std::map<int, std::string> extensions;
  std::string body;
};

Packet parse(const std::vector<uint8_t>& bytes) {
  Packet packet;
  GstBuffer* buffer = gst_buffer_new_memdup(bytes.data(), bytes.size());
  GstRTPBuffer rtp = GST_RTP_BUFFER_INIT;
  EXPECT_TRUE(gst_rtp_buffer_map(buffer, GST_MAP_READ, &rtp));
  packet.payload = gst_rtp_buffer_get_payload_type(&rtp);
  packet.marker = gst_rtp_buffer_get_marker(&rtp);
  packet.ssrc = gst_rtp_buffer_get_ssrc(&rtp);
  packet.sequence = gst_rtp_buffer_get_seq(&rtp);
  for (guint8 id = 1; id < 15; ++id) {
    gpointer data = nullptr;
    guint size = 0;
    if (gst_rtp_buffer_get_extension_onebyte_header(&rtp, id, 0, &data, &size))
      packet.extensions[id] = std::string(static_cast<char*>(data), size);
  }
  packet.body.assign(static_cast<char*>(gst_rtp_buffer_get_payload(&rtp)),
                     gst_rtp_buffer_get_payload_len(&rtp));
  gst_rtp_buffer_unmap(&rtp);
  gst_buffer_unref(buffer);
  return packet;
}

TEST(Packets, CarryWhatWasAnnounced) {
  Rig rig(MediaKind::video, kLive);
  rig.sender->set_mid("17");
  rig.play();
  ASSERT_TRUE(rig.wait_for_caps());
  rig.connect();
  ASSERT_TRUE(rig.wait([&] { return rig.sender->packets() > 50; }));
  EXPECT_EQ(rig.sent("profile-level-id"), "42e01f");
  EXPECT_EQ(rig.sent("packetization-mode"), "1");
  for (auto& bytes : rig.peer->first_packets()) {
    Packet packet = parse(bytes);
    EXPECT_EQ(std::to_string(packet.ssrc), rig.sent("ssrc"));
    EXPECT_EQ(std::to_string(packet.payload), rig.sent("payload"));
    EXPECT_EQ(packet.extensions[extension_id::mid], "17");
    EXPECT_EQ(packet.extensions[extension_id::twcc].size(), 2u);
    EXPECT_LE(bytes.size(), 1200u);
  }
  EXPECT_TRUE(rig.wait([&] { return rig.sender->packets() == rig.peer->packets; }));
}

TEST(Packets, MadeElsewhereGetOurHeaderExtensions) {
  gref<GstCaps> told;
  RtpInput input([&](gref<GstCaps> caps) { told = std::move(caps); });
  g_autoptr(GstCaps) caps = gst_caps_from_string(
      "application/x-rtp, media=(string)video, encoding-name=(string)VP8, clock-rate=(int)90000, "
      "payload=(int)120, extmap-4=(string)urn:elsewhere, a-mid=(string)other");
  auto downstream = input.set_caps(*codec_by_rtp_name("VP8"), caps);
  const GstStructure* structure = gst_caps_get_structure(downstream.get(), 0);
  EXPECT_STREQ(gst_structure_get_string(structure, "extmap-4"), kMidUri);
  EXPECT_STREQ(gst_structure_get_string(structure, "extmap-3"), kTwccUri);
  EXPECT_FALSE(gst_structure_has_field(structure, "a-mid"));
  EXPECT_FALSE(told);  // the SSRC is not known yet
  input.set_mid("3");

  GstBuffer* buffer = gst_rtp_buffer_new_allocate(5, 0, 2);
  GST_BUFFER_PTS(buffer) = 12345;
  GstRTPBuffer rtp = GST_RTP_BUFFER_INIT;
  gst_rtp_buffer_map(buffer, GST_MAP_READWRITE, &rtp);
  gst_rtp_buffer_set_payload_type(&rtp, 120);
  gst_rtp_buffer_set_ssrc(&rtp, 4711);
  gst_rtp_buffer_set_seq(&rtp, 99);
  gst_rtp_buffer_set_marker(&rtp, TRUE);
  gst_rtp_buffer_set_csrc(&rtp, 0, 1);
  gst_rtp_buffer_set_csrc(&rtp, 1, 2);
  memcpy(gst_rtp_buffer_get_payload(&rtp), "hello", 5);
  gst_rtp_buffer_add_extension_onebyte_header(&rtp, 4, "wrong", 5);
  gst_rtp_buffer_add_extension_onebyte_header(&rtp, 9, "x", 1);
  gst_rtp_buffer_unmap(&rtp);

  input.inspect(buffer);
  ASSERT_TRUE(told);
  guint ssrc = 0;
  gst_structure_get_uint(gst_caps_get_structure(told.get(), 0), "ssrc", &ssrc);
  EXPECT_EQ(ssrc, 4711u);

  GstBuffer* out = input.rewrite(buffer);
  ASSERT_TRUE(out);
  EXPECT_EQ(GST_BUFFER_PTS(out), 12345u);
  std::vector<uint8_t> bytes(gst_buffer_get_size(out));
  gst_buffer_extract(out, 0, bytes.data(), bytes.size());
  gst_buffer_unref(out);
  Packet packet = parse(bytes);
  EXPECT_EQ(packet.payload, 120);
  EXPECT_EQ(packet.ssrc, 4711u);
  EXPECT_EQ(packet.sequence, 99);
  EXPECT_TRUE(packet.marker);
  EXPECT_EQ(packet.body, "hello");
  EXPECT_EQ(packet.extensions[extension_id::mid], "3");
  EXPECT_EQ(packet.extensions.count(9), 0u);
  EXPECT_EQ(packet.extensions[extension_id::twcc], std::string(2, '\0'));
}

TEST(Packets, ThatAreNoRtpAreDroppedWhereverTheyAreCut) {
  RtpInput input([](gref<GstCaps>) {});
  const uint8_t whole[] = {0x92, 96, 0, 1, 0, 0, 0, 2, 0,    0,    0, 3,  // two CSRCs, extension
                           0,    0,  0, 4, 0, 0, 0, 5, 0xbe, 0xde, 0, 1, 0x40, 'x', 0, 0, 'p'};
  for (std::size_t size = 0; size <= sizeof whole; ++size) {
    GstBuffer* buffer = gst_buffer_new_and_alloc(size);
    gst_buffer_fill(buffer, 0, whole, size);
    input.inspect(buffer);
    GstBuffer* out = input.rewrite(buffer);
    EXPECT_EQ(out != nullptr, size >= sizeof whole - 1) << size;  // the last byte is the payload
    if (out) gst_buffer_unref(out);
  }
  GstBuffer* other = gst_buffer_new_memdup("\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b", 12);
  EXPECT_EQ(input.rewrite(other), nullptr);
}

TEST(Packets, OfAnotherSsrcAreAnnouncedWhenItHasTakenOver) {
  int told = 0;
  RtpInput input([&](gref<GstCaps>) { ++told; });
  g_autoptr(GstCaps) caps = gst_caps_from_string(
      "application/x-rtp, media=(string)video, encoding-name=(string)VP8, clock-rate=(int)90000, "
      "payload=(int)96, ssrc=(uint)1");
  input.set_caps(*codec_by_rtp_name("VP8"), caps);
  EXPECT_EQ(told, 1);
  auto send = [&](uint32_t ssrc) {
    uint8_t bytes[13] = {0x80, 96};
    GST_WRITE_UINT32_BE(bytes + 8, ssrc);
    GstBuffer* buffer = gst_buffer_new_memdup(bytes, sizeof bytes);
    input.inspect(buffer);
    gst_buffer_unref(buffer);
  };
  for (int i = 0; i < 100; ++i) send(i % 2 ? 1 : 2);  // strays
  EXPECT_EQ(told, 1);
  for (int i = 0; i < 100; ++i) send(2);
  EXPECT_EQ(told, 2);
}

// --- caps ------------------------------------------------------------------------------------

TEST(Caps, OfRawSourcesAreWhatNeedsNoConversion) {
  Rig video(MediaKind::video, "videotestsrc is-live=true name=src");
  video.play();
  ASSERT_TRUE(video.wait_for_caps());
  GstElement* src = video.element("src");
  g_autoptr(GstPad) pad = gst_element_get_static_pad(src, "src");
  g_autoptr(GstCaps) caps = gst_pad_get_current_caps(pad);
  gst_object_unref(src);
  EXPECT_STREQ(gst_structure_get_string(gst_caps_get_structure(caps, 0), "format"), "I420");

  Rig audio(MediaKind::audio, "audiotestsrc is-live=true name=src");
  audio.play();
  ASSERT_TRUE(audio.wait_for_caps());
  src = audio.element("src");
  g_autoptr(GstPad) audio_pad = gst_element_get_static_pad(src, "src");
  g_autoptr(GstCaps) audio_caps = gst_pad_get_current_caps(audio_pad);
  gst_object_unref(src);
  int rate = 0;
  gst_structure_get_int(gst_caps_get_structure(audio_caps, 0), "rate", &rate);
  EXPECT_EQ(rate, 48000);
}

// A chain alone, fed by hand.
class Fed : public testing::Test {
 protected:
  void start(MediaKind kind) {
    SendChain::Callbacks callbacks;
    callbacks.on_caps = [this](gref<GstCaps> caps) { caps_.push_back(std::move(caps)); };
    callbacks.on_first_packet = [] {};
    callbacks.on_eos = [this] { ++eos_; };
    callbacks.on_error = [this](Error error) { errors_.push_back(std::move(error)); };
    chain_ = std::make_unique<SendChain>(kind, "send", std::move(callbacks));
    bin_ = gref<GstElement>::sink(chain_->bin());
    harness_ = gst_harness_new_with_element(chain_->bin(), "sink", nullptr);
    gst_harness_set_live(harness_, TRUE);
  }
  void TearDown() override {
    if (harness_) gst_harness_teardown(harness_);
  }
  std::string name(std::size_t i) {
    return gst_structure_get_string(gst_caps_get_structure(caps_.at(i).get(), 0), "encoding-name");
  }
  GstFlowReturn push(std::size_t size, GstClockTime pts = 0) {
    GstBuffer* buffer = gst_buffer_new_and_alloc(size);
    gst_buffer_memset(buffer, 0, 0, size);
    GST_BUFFER_PTS(buffer) = pts;
    return gst_harness_push(harness_, buffer);
  }

  std::unique_ptr<SendChain> chain_;
  gref<GstElement> bin_;
  GstHarness* harness_ = nullptr;
  std::vector<gref<GstCaps>> caps_;
  std::vector<Error> errors_;
  int eos_ = 0;
};

TEST_F(Fed, TellsAnotherCodecAsItComes) {
  start(MediaKind::audio);
  gst_harness_set_src_caps_str(harness_, "audio/x-mulaw,rate=8000,channels=1");
  EXPECT_EQ(push(160), GST_FLOW_OK);
  ASSERT_EQ(caps_.size(), 1u);
  gst_harness_set_src_caps_str(harness_, "audio/x-alaw,rate=8000,channels=1");
  EXPECT_EQ(push(160, GST_SECOND), GST_FLOW_OK);
  ASSERT_EQ(caps_.size(), 2u);
  EXPECT_EQ(name(0), "PCMU");
  EXPECT_EQ(name(1), "PCMA");
  gst_harness_set_src_caps_str(harness_,
                               "audio/x-raw,format=S16LE,rate=48000,channels=2,layout=interleaved");
  EXPECT_EQ(push(960 * 4, 2 * GST_SECOND), GST_FLOW_OK);
  ASSERT_EQ(caps_.size(), 3u);
  EXPECT_EQ(name(2), "OPUS");
  EXPECT_TRUE(errors_.empty());
}

TEST_F(Fed, AByteStreamNeedsNoMoreInItsCaps) {
  start(MediaKind::video);
  g_autoptr(GstCaps) stream =
      gst_caps_from_string("video/x-h264, stream-format=(string)byte-stream");
  g_autoptr(GstCaps) caps = gst_pad_peer_query_caps(harness_->srcpad, stream);
  EXPECT_TRUE(gst_caps_is_fixed(caps)) << "an element before us could not choose";
}

TEST_F(Fed, AnOpusEncoderIsToldHowManyChannels) {
  start(MediaKind::audio);
  g_autoptr(GstCaps) opus = gst_caps_from_string("audio/x-opus");
  g_autoptr(GstCaps) caps = gst_pad_peer_query_caps(harness_->srcpad, opus);
  g_autoptr(GstCaps) six = gst_caps_from_string("audio/x-opus, channels=(int)6");
  g_autoptr(GstCaps) two = gst_caps_from_string("audio/x-opus, channels=(int)2");
  EXPECT_FALSE(gst_caps_can_intersect(caps, six));
  EXPECT_TRUE(gst_caps_can_intersect(caps, two));
}

TEST_F(Fed, RefusesCapsThatCannotBeSentAndNamesThem) {
  start(MediaKind::audio);
  gst_harness_set_src_caps_str(harness_, "audio/x-opus,channels=6,channel-mapping-family=1");
  EXPECT_EQ(push(100), GST_FLOW_NOT_NEGOTIATED);
  ASSERT_EQ(errors_.size(), 1u);
  EXPECT_EQ(errors_[0].kind, ErrorKind::peer);
  EXPECT_NE(errors_[0].message.find("channels=(int)6"), std::string::npos) << errors_[0].message;
  EXPECT_TRUE(caps_.empty());
}

TEST_F(Fed, NamesThePadForMediaOfTheOtherKind) {
  start(MediaKind::video);
  gst_harness_set_src_caps_str(harness_,
                               "audio/x-raw,format=S16LE,rate=48000,channels=1,layout=interleaved");
  EXPECT_EQ(push(960), GST_FLOW_NOT_NEGOTIATED);
  ASSERT_EQ(errors_.size(), 1u);
  EXPECT_NE(errors_[0].message.find("audio_%u"), std::string::npos) << errors_[0].message;
  // PCMU by its static payload type (RFC 3551)
  gst_harness_set_src_caps_str(harness_, "application/x-rtp,payload=0,clock-rate=8000");
  EXPECT_EQ(push(20), GST_FLOW_NOT_NEGOTIATED);
  ASSERT_EQ(errors_.size(), 2u);
  EXPECT_NE(errors_[1].message.find("audio_%u"), std::string::npos) << errors_[1].message;
  // Of these no pad is the right one.
  for (const char* caps :
       {"text/x-raw,format=utf8", "application/x-rtp,payload=96,clock-rate=90000"}) {
    const std::size_t before = errors_.size();
    gst_harness_set_src_caps_str(harness_, caps);
    EXPECT_EQ(push(20), GST_FLOW_NOT_NEGOTIATED);
    ASSERT_EQ(errors_.size(), before + 1);
    EXPECT_NE(errors_.back().message.find("Supported are"), std::string::npos)
        << errors_.back().message;
  }
}

TEST_F(Fed, CallsAMissingEncoderByItsPackage) {
  GstRegistry* registry = gst_registry_get();
  std::vector<GstPluginFeature*> removed;
  for (const char* encoder : {"x264enc", "openh264enc", "vp8enc"})
    if (GstPluginFeature* feature = gst_registry_lookup_feature(registry, encoder)) {
      gst_registry_remove_feature(registry, feature);
      removed.push_back(feature);
    }
  start(MediaKind::video);
  gst_harness_set_src_caps_str(harness_,
                               "video/x-raw,format=I420,width=64,height=64,framerate=30/1");
  EXPECT_EQ(push(64 * 64 * 3 / 2), GST_FLOW_NOT_NEGOTIATED);
  for (GstPluginFeature* feature : removed) gst_registry_add_feature(registry, feature);
  ASSERT_EQ(errors_.size(), 1u);
  EXPECT_NE(errors_[0].message.find("gstreamer1.0-plugins-ugly"), std::string::npos);
}

TEST_F(Fed, FallsBackToVp8) {
  GstRegistry* registry = gst_registry_get();
  std::vector<GstPluginFeature*> removed;
  for (const char* encoder : {"x264enc", "openh264enc"})
    if (GstPluginFeature* feature = gst_registry_lookup_feature(registry, encoder)) {
      gst_registry_remove_feature(registry, feature);
      removed.push_back(feature);
    }
  start(MediaKind::video);
  gst_harness_set_src_caps_str(harness_,
                               "video/x-raw,format=I420,width=64,height=64,framerate=30/1");
  EXPECT_EQ(push(64 * 64 * 3 / 2), GST_FLOW_OK);
  for (GstPluginFeature* feature : removed) gst_registry_add_feature(registry, feature);
  ASSERT_EQ(caps_.size(), 1u);
  EXPECT_EQ(name(0), "VP8");
}

TEST_F(Fed, BeginsANewTrackAfterItsEnd) {
  start(MediaKind::audio);
  gst_harness_set_src_caps_str(harness_, "audio/x-mulaw,rate=8000,channels=1");
  EXPECT_EQ(push(160), GST_FLOW_OK);
  gst_harness_push_event(harness_, gst_event_new_eos());
  EXPECT_EQ(eos_, 1);
  gst_harness_push_event(harness_, gst_event_new_stream_start("next"));
  gst_harness_set_src_caps_str(harness_, "audio/x-mulaw,rate=8000,channels=1");
  EXPECT_EQ(push(160), GST_FLOW_OK);
  EXPECT_EQ(caps_.size(), 2u);
}

TEST_F(Fed, SurvivesAFlush) {
  start(MediaKind::audio);
  gst_harness_set_src_caps_str(harness_, "audio/x-mulaw,rate=8000,channels=1");
  EXPECT_EQ(push(160), GST_FLOW_OK);
  gst_harness_push_event(harness_, gst_event_new_flush_start());
  gst_harness_push_event(harness_, gst_event_new_flush_stop(TRUE));
  GstSegment segment;
  gst_segment_init(&segment, GST_FORMAT_TIME);
  gst_harness_push_event(harness_, gst_event_new_segment(&segment));
  EXPECT_EQ(push(160), GST_FLOW_OK);
  EXPECT_EQ(caps_.size(), 1u);
}

TEST_F(Fed, EndsBeforeItBegan) {
  start(MediaKind::video);
  gst_harness_push_event(harness_, gst_event_new_stream_start("empty"));
  gst_harness_push_event(harness_, gst_event_new_eos());
  EXPECT_EQ(eos_, 1);
}

// --- pace ------------------------------------------------------------------------------------

TEST(NotLive, IsHeldUntilConnectedThenShownFromItsBeginningInRealTime) {
  Rig rig(MediaKind::video, kFile);
  rig.receive(h264());
  rig.play();
  ASSERT_TRUE(rig.wait_for_caps());
  ASSERT_TRUE(rig.wait([&] { return running_time(rig) > 800 * GST_MSECOND; }));
  EXPECT_EQ(rig.sender_eos, 0);
  rig.connect();
  ASSERT_TRUE(rig.wait([&] { return rig.sender_eos > 0; }));
  auto frames = rig.frames();
  ASSERT_EQ(frames.size(), 45u);
  for (std::size_t i = 0; i < frames.size(); ++i) EXPECT_EQ(frames[i].counter, i);
  EXPECT_GT(frames.back().at_us - frames.front().at_us, 900 * 1000) << "rushed";
  EXPECT_EQ(rig.peer->eos, 0) << "EOS must not reach webrtcbin";
  EXPECT_TRUE(rig.bus_errors().empty()) << rig.bus_errors()[0];
}

TEST(NotLive, KeepsStepWithTheOthersOfItsElement) {
  auto timeline = std::make_shared<Timeline>();
  Rig rig(MediaKind::video, kFile, timeline);
  rig.receive(h264());
  rig.play();
  ASSERT_TRUE(rig.wait_for_caps());
  // Another chain began that late.
  timeline->offset_ns(0, gst_element_get_base_time(rig.pipeline.get()), 400 * GST_MSECOND);
  rig.connect();
  ASSERT_TRUE(rig.wait_for_frames(10));
  EXPECT_GE(running_time(rig), rig.frames()[9].time + 390 * GST_MSECOND);
}

bool seek_to_start(Rig& rig) {
  g_autoptr(GstElement) burn = rig.element("burn");
  g_autoptr(GstPad) pad = gst_element_get_static_pad(burn, "src");
  return gst_pad_send_event(pad, gst_event_new_seek(1, GST_FORMAT_TIME, GST_SEEK_FLAG_FLUSH,
                                                    GST_SEEK_TYPE_SET, 0, GST_SEEK_TYPE_NONE, 0));
}

TEST(NotLive, KeepsItsPaceAfterASeek) {
  Rig rig(MediaKind::video,
          "videotestsrc ! video/x-raw,format=I420,width=320,height=240,framerate=30/1 ! identity "
          "name=burn ! identity");
  rig.receive(h264());
  rig.play();
  ASSERT_TRUE(rig.wait_for_caps());
  rig.connect();
  ASSERT_TRUE(rig.wait_for_frames(20));
  ASSERT_TRUE(seek_to_start(rig));
  std::size_t before = rig.frames().size();
  gint64 from = g_get_monotonic_time();
  ASSERT_TRUE(rig.wait_for_frames(before + 25));
  EXPECT_GT(g_get_monotonic_time() - from, 600 * 1000) << "rushed";
}

TEST(NotLive, ThatNobodyWillSeeGoesByInRealTime) {
  Rig rig(MediaKind::video,
          "videotestsrc num-buffers=15 ! video/x-raw,width=64,height=64,framerate=30/1 ! identity");
  rig.play();
  ASSERT_TRUE(rig.wait_for_caps());
  gint64 from = g_get_monotonic_time();
  rig.sender->give_up();
  ASSERT_TRUE(rig.wait([&] { return rig.sender_eos > 0; }));
  EXPECT_GT(g_get_monotonic_time() - from, 300 * 1000) << "rushed";
}

TEST(NotLive, HeldStopsAndFlushesAtOnce) {
  Rig rig(MediaKind::video, kFile);
  rig.play();
  ASSERT_TRUE(rig.wait_for_caps());
  ASSERT_TRUE(rig.wait([&] { return running_time(rig) > 100 * GST_MSECOND; }));
  EXPECT_TRUE(seek_to_start(rig));
  gint64 before = g_get_monotonic_time();
  gst_element_set_state(rig.pipeline.get(), GST_STATE_NULL);
  EXPECT_LT(g_get_monotonic_time() - before, 500 * 1000);
}

TEST(NotLive, RtpWithoutSsrcIsAnnouncedThoughItIsHeld) {
  Rig rig(MediaKind::video,
          "videotestsrc num-buffers=30 ! video/x-raw,width=64,height=64 ! vp8enc deadline=1 ! "
          "rtpvp8pay pt=120 ! capssetter replace=true caps=\"application/x-rtp,media=video,"
          "encoding-name=VP8,clock-rate=90000,payload=120\"");
  rig.play();
  ASSERT_TRUE(rig.wait_for_caps());
  rig.connect();
  ASSERT_TRUE(rig.wait([&] { return rig.sender_eos > 0; }));
  EXPECT_GE(rig.peer->packets, 30u);
  EXPECT_EQ(rig.sent("payload"), "120");
}

TEST(Live, IsDroppedUntilConnected) {
  Rig rig(MediaKind::video, kLive);
  rig.receive(h264());
  rig.play();
  ASSERT_TRUE(rig.wait_for_caps());
  ASSERT_TRUE(rig.wait([&] { return rig.burnt() > 15; }));
  EXPECT_EQ(rig.sender->packets(), 0u);
  rig.connect();
  ASSERT_TRUE(rig.wait_for_frames(3));
  ASSERT_TRUE(rig.frames()[0].counter) << "damaged";
  EXPECT_GE(*rig.frames()[0].counter, 10);
  EXPECT_EQ(rig.first_packets, 1);
}

TEST(Live, ThatEndsIsDrainedThroughTheEncoder) {
  Rig rig(MediaKind::video,
          "videotestsrc is-live=true num-buffers=20 ! "
          "video/x-raw,format=I420,width=320,height=240,framerate=30/1 ! identity name=burn ! "
          "x264enc rc-lookahead=10 sync-lookahead=0 bframes=0 threads=1");
  rig.receive(h264());
  rig.play();
  rig.connect();
  ASSERT_TRUE(rig.wait([&] { return rig.sender_eos > 0; }));
  ASSERT_TRUE(rig.wait_for_frames(20));
  EXPECT_EQ(rig.frames().back().counter, 19);
}

// As appsrc gives it when nothing but its caps is set: a segment in bytes, no times.
class Untimed : public testing::TestWithParam<bool> {};

TEST_P(Untimed, PicturesAreShownAsTheyCome) {
  Rig rig(MediaKind::video, kLive);
  g_autoptr(GstElement) burn = rig.element("burn");
  g_autoptr(GstPad) pad = gst_element_get_static_pad(burn, "src");
  gst_pad_add_probe(
      pad, GstPadProbeType(GST_PAD_PROBE_TYPE_BUFFER | GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM),
      [](GstPad*, GstPadProbeInfo* info, gpointer in_bytes) {
        if (info->type & GST_PAD_PROBE_TYPE_BUFFER) {
          auto* buffer = gst_buffer_make_writable(GST_PAD_PROBE_INFO_BUFFER(info));
          GST_BUFFER_PTS(buffer) = GST_BUFFER_DTS(buffer) = GST_CLOCK_TIME_NONE;
          GST_BUFFER_DURATION(buffer) = GST_CLOCK_TIME_NONE;
          GST_PAD_PROBE_INFO_DATA(info) = buffer;
        } else if (in_bytes && GST_EVENT_TYPE(info->data) == GST_EVENT_SEGMENT) {
          GstSegment segment;
          gst_segment_init(&segment, GST_FORMAT_BYTES);
          gst_event_unref(GST_PAD_PROBE_INFO_EVENT(info));
          GST_PAD_PROBE_INFO_DATA(info) = gst_event_new_segment(&segment);
        }
        return GST_PAD_PROBE_OK;
      },
      GINT_TO_POINTER(GetParam()), nullptr);
  rig.receive(h264());
  rig.play();
  rig.connect();
  ASSERT_TRUE(rig.wait_for_frames(30));
  auto frames = rig.frames();
  for (std::size_t i = 1; i < frames.size(); ++i) {
    EXPECT_GT(frames[i].time, frames[i - 1].time);
    EXPECT_EQ(frames[i].counter.value_or(0), frames[i - 1].counter.value_or(0) + 1);
  }
  // 29 pictures take 967 ms, more or less on a busy machine.
  const GstClockTime took = frames[29].time - frames[0].time;
  EXPECT_GT(took, 300 * GST_MSECOND);
  EXPECT_LT(took, (frames[29].at_us - frames[0].at_us) * GST_USECOND + 500 * GST_MSECOND);
  EXPECT_TRUE(rig.bus_errors().empty()) << rig.bus_errors()[0];
}

INSTANTIATE_TEST_SUITE_P(Input, Untimed, testing::Bool());

// --- the peer fails --------------------------------------------------------------------------

class Failing : public testing::TestWithParam<GstFlowReturn> {};

TEST_P(Failing, PeerHurtsNobodyAndTheNextOneGetsMedia) {
  Rig rig(MediaKind::video, kLive);
  rig.receive(h264());
  rig.play();
  ASSERT_TRUE(rig.wait_for_caps());
  rig.connect();
  ASSERT_TRUE(rig.wait_for_frames(3));
  rig.peer->answer = GetParam();
  auto asked = rig.peer->packets.load();
  ASSERT_TRUE(rig.wait([&] { return rig.peer->packets > asked + 20; })) << "upstream has stopped";
  std::size_t so_far = rig.frames().size();
  rig.replace_peer();
  ASSERT_TRUE(rig.wait_for_frames(so_far + 5));
  EXPECT_EQ(rig.first_packets, 2);
  EXPECT_TRUE(rig.bus_errors().empty()) << rig.bus_errors()[0];
}

INSTANTIATE_TEST_SUITE_P(Flows, Failing,
                         testing::Values(GST_FLOW_ERROR, GST_FLOW_FLUSHING, GST_FLOW_NOT_NEGOTIATED,
                                         GST_FLOW_NOT_LINKED),
                         [](const auto& info) {
                           std::string name = gst_flow_get_name(info.param);
                           std::erase(name, '-');
                           return name;
                         });

TEST(BlockedPeer, IsLeftAtOnce) {
  Rig rig(MediaKind::video, kLive);
  rig.play();
  ASSERT_TRUE(rig.wait_for_caps());
  rig.connect();
  ASSERT_TRUE(rig.wait([&] { return rig.first_packets > 0; }));
  std::atomic<bool> blocked{false};
  gulong probe = gst_pad_add_probe(
      rig.peer->sink(),
      GstPadProbeType(GST_PAD_PROBE_TYPE_BLOCK | GST_PAD_PROBE_TYPE_BUFFER |
                      GST_PAD_PROBE_TYPE_BUFFER_LIST),
      [](GstPad*, GstPadProbeInfo*, gpointer data) {
        *static_cast<std::atomic<bool>*>(data) = true;
        return GST_PAD_PROBE_OK;
      },
      &blocked, nullptr);
  ASSERT_TRUE(rig.wait([&] { return blocked.load(); }));
  gint64 before = g_get_monotonic_time();
  rig.sender->disconnect();
  EXPECT_LT(g_get_monotonic_time() - before, 100 * 1000);
  gst_pad_remove_probe(rig.peer->sink(), probe);
  rig.connect();
  ASSERT_TRUE(rig.wait([&] { return rig.first_packets > 1; }));
}

TEST(Reconnecting, FiftyTimesWhileItRunsLosesNothingElse) {
  Rig rig(MediaKind::video, kLive);
  rig.receive(h264());
  rig.play();
  ASSERT_TRUE(rig.wait_for_caps());
  for (int i = 0; i < 50; ++i) {
    rig.connect();
    ASSERT_TRUE(rig.wait([&] { return rig.first_packets > i; }));
    rig.sender->disconnect();
  }
  rig.connect();
  std::size_t so_far = rig.frames().size();
  ASSERT_TRUE(rig.wait_for_frames(so_far + 5));
  EXPECT_EQ(rig.caps().size(), 1u);
  EXPECT_TRUE(rig.bus_errors().empty()) << rig.bus_errors()[0];
}

// A sink pad that remembers what data needs in front of it, and can keep the thread that brings
// caps.
struct SlowPad {
  SlowPad(Signal& signal, bool slow) : signal(signal), slow(slow) {
    pad = gref<GstPad>::sink(gst_pad_new("sink", GST_PAD_SINK));
    gst_pad_set_chain_function_full(
        pad.get(),
        [](GstPad* pad, GstObject*, GstBuffer* buffer) {
          gst_buffer_unref(buffer);
          auto* self = static_cast<SlowPad*>(pad->chaindata);
          ++self->packets;
          self->signal.happened();
          return GST_FLOW_OK;
        },
        this, nullptr);
    gst_pad_set_event_function_full(
        pad.get(),
        [](GstPad* pad, GstObject*, GstEvent* event) -> gboolean {
          static_cast<SlowPad*>(pad->eventdata)->take(event);
          return TRUE;
        },
        this, nullptr);
    gst_pad_set_active(pad.get(), TRUE);
  }
  ~SlowPad() { gst_pad_set_active(pad.get(), FALSE); }
  void take(GstEvent* event) {
    std::unique_lock lock(mutex);
    const GstEventType type = GST_EVENT_TYPE(event);
    const bool caps = type == GST_EVENT_CAPS;
    if (caps || type == GST_EVENT_STREAM_START || type == GST_EVENT_SEGMENT)
      got.push_back(gst_event_type_get_name(type));
    gst_event_unref(event);
    if (!caps || !slow) return;
    kept = true;
    signal.happened();
    changed.wait(lock, [this] { return !slow; });
  }
  void let_go() {
    std::lock_guard lock(mutex);
    slow = false;
    changed.notify_all();
  }
  bool keeps() {
    std::lock_guard lock(mutex);
    return kept;
  }

  gref<GstPad> pad;
  Signal& signal;
  std::mutex mutex;
  std::condition_variable changed;
  bool slow, kept = false;
  std::vector<std::string> got;
  std::atomic<unsigned> packets{0};
};

TEST(Reconnecting, WhileTheOldPeerStillTakesTheCaps) {
  Rig rig(MediaKind::video, kLive);
  rig.play();
  ASSERT_TRUE(rig.wait_for_caps());
  SlowPad before(rig.signal, true), after(rig.signal, false);
  ASSERT_TRUE(rig.sender->connect(before.pad.get()));
  EXPECT_TRUE(rig.wait([&] { return before.keeps(); }));
  rig.sender->disconnect();
  ASSERT_TRUE(rig.sender->connect(after.pad.get()));
  before.let_go();
  EXPECT_TRUE(rig.wait([&] { return after.packets > 0; }));
  rig.sender->disconnect();
  gst_element_set_state(rig.pipeline.get(), GST_STATE_NULL);
  // The same again does no harm.
  after.got.erase(std::unique(after.got.begin(), after.got.end()), after.got.end());
  EXPECT_EQ(after.got, (std::vector<std::string>{"stream-start", "caps", "segment"}));
}

// --- key frames ------------------------------------------------------------------------------

// Counts key frames that leave the payloader, by the SPS in front of them.
int key_frames(FakePeer& peer) {
  int count = 0;
  for (auto& bytes : peer.first_packets()) {
    Packet packet = parse(bytes);
    int type = packet.body.empty() ? 0 : packet.body[0] & 0x1f;
    if (type == 24 && packet.body.size() > 3) type = packet.body[3] & 0x1f;
    count += type == 7;
  }
  return count;
}

TEST(KeyFrames, AreMadeWhenThePeerAsks) {
  Rig rig(MediaKind::video,
          "videotestsrc is-live=true ! video/x-raw,width=64,height=64,framerate=30/1 ! identity");
  rig.play();
  ASSERT_TRUE(rig.wait_for_caps());
  rig.connect();
  ASSERT_TRUE(rig.wait([&] { return key_frames(*rig.peer) > 0; }));
  for (int i = 0; i < 3; ++i) {
    int before = key_frames(*rig.peer);
    rig.peer->request_key_frame();
    ASSERT_TRUE(rig.wait([&] { return key_frames(*rig.peer) > before; }));
  }
}

TEST(KeyFrames, OfEncodedInputAreAskedOfItsEncoder) {
  Rig rig(MediaKind::video,
          "videotestsrc is-live=true ! video/x-raw,format=I420,width=64,height=64,framerate=30/1 ! "
          "x264enc tune=zerolatency key-int-max=1000 ! h264parse ! "
          "video/x-h264,stream-format=avc,alignment=au ! identity");
  rig.play();
  ASSERT_TRUE(rig.wait_for_caps());
  rig.connect();
  ASSERT_TRUE(rig.wait([&] { return key_frames(*rig.peer) > 0; }));
  int before = key_frames(*rig.peer);
  rig.peer->request_key_frame();
  ASSERT_TRUE(rig.wait([&] { return key_frames(*rig.peer) > before; }));
}

TEST(Encoded, InSingleNalUnitsFlows) {
  Rig rig(MediaKind::video,
          "videotestsrc is-live=true ! video/x-raw,format=I420,width=64,height=64,framerate=30/1 ! "
          "x264enc tune=zerolatency ! h264parse ! video/x-h264,alignment=nal ! identity");
  rig.receive(h264());
  rig.play();
  ASSERT_TRUE(rig.wait_for_caps());
  rig.connect();
  EXPECT_TRUE(rig.wait_for_frames(20));
}

TEST(Profile, OfEncodedInputIsItsOwn) {
  Rig rig(MediaKind::video,
          "videotestsrc is-live=true ! video/x-raw,format=I420,width=64,height=64,framerate=30/1 ! "
          "x264enc tune=zerolatency ! video/x-h264,profile=high,stream-format=avc ! identity");
  rig.play();
  ASSERT_TRUE(rig.wait_for_caps());
  EXPECT_EQ(rig.sent("profile-level-id").substr(0, 4), "6400");
}

// --- states ----------------------------------------------------------------------------------

TEST(States, GoUpAndDownAHundredTimes) {
  Rig rig(MediaKind::video,
          "videotestsrc is-live=true ! video/x-raw,width=64,height=64,framerate=30/1 ! identity");
  for (std::size_t i = 0; i < 100; ++i) {
    rig.play();
    ASSERT_TRUE(rig.wait([&] { return rig.caps().size() == i + 1; })) << i;
    if (i % 2) {
      rig.connect();
      ASSERT_TRUE(rig.wait([&] { return rig.first_packets > int(i) / 2; })) << i;
      rig.sender->disconnect();
    }
    gst_element_set_state(rig.pipeline.get(), GST_STATE_NULL);
    rig.sender->rearm();
  }
  EXPECT_TRUE(rig.bus_errors().empty()) << rig.bus_errors()[0];
}

// The application starts its pipeline while the source's thread says the caps already.
TEST(States, ReachAnEncoderOnlyWhenItIsSetUp) {
  Rig rig(MediaKind::video, kLive);
  rig.receive(h264());
  g_signal_connect(rig.sender->bin(), "element-added",
                   G_CALLBACK(+[](GstElement* bin, GstElement*, gpointer) {
                     gst_element_set_state(bin, GST_STATE_PLAYING);
                   }),
                   nullptr);
  rig.play();
  ASSERT_TRUE(rig.wait_for_caps());
  rig.connect();
  ASSERT_TRUE(rig.wait_for_frames(3));
  g_autoptr(GstPad) src = gst_element_get_static_pad(rig.sender->bin(), "src");
  g_autoptr(GstQuery) query = gst_query_new_latency();
  ASSERT_TRUE(gst_pad_query(src, query));
  GstClockTime min = GST_CLOCK_TIME_NONE;
  gst_query_parse_latency(query, nullptr, &min, nullptr);
  EXPECT_LE(min, 2 * GST_SECOND / 30) << "the source's frame, and an encoder that holds none back";
}

TEST(States, LeaveNothingBehind) {
  gpointer seen = nullptr;
  {
    Rig rig(MediaKind::video, kLive);
    rig.receive(h264());
    rig.play();
    ASSERT_TRUE(rig.wait_for_caps());
    rig.connect();
    ASSERT_TRUE(rig.wait_for_frames(3));
    seen = rig.sender->bin();
    g_object_add_weak_pointer(G_OBJECT(seen), &seen);
  }
  EXPECT_EQ(seen, nullptr);
}

}  // namespace
}  // namespace cfr::test

int main(int argc, char** argv) {
  gst_init(&argc, &argv);
  g_log_set_always_fatal(GLogLevelFlags(G_LOG_LEVEL_CRITICAL | G_LOG_FATAL_MASK));
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
