#include "media/encoders.h"

#include <gst/video/video.h>

#include <algorithm>
#include <string>

namespace cfr {

namespace {

constexpr int kKeyFrameIntervalS = 4;      // viewers ask when they need one sooner
constexpr guint64 kBitsPerPixel1000 = 70;  // default bitrate: 0.07 bit a pixel
constexpr guint64 kMinKbps = 300, kMaxKbps = 6000;
constexpr guint kDefaultKbps = 1500;

guint kbps_for(const GstCaps* raw) {
  GstVideoInfo info;
  if (!gst_video_info_from_caps(&info, raw)) return kDefaultKbps;
  guint64 fps1000 = 30000;
  if (GST_VIDEO_INFO_FPS_N(&info) > 0)
    fps1000 = gst_util_uint64_scale(1000, guint64(GST_VIDEO_INFO_FPS_N(&info)),
                                    guint64(std::max(1, GST_VIDEO_INFO_FPS_D(&info))));
  fps1000 = std::clamp<guint64>(fps1000, 1000, 120000);
  guint64 pixels = guint64(GST_VIDEO_INFO_WIDTH(&info)) * guint64(GST_VIDEO_INFO_HEIGHT(&info));
  guint64 kbps = pixels * fps1000 / 1000 * kBitsPerPixel1000 / 1000 / 1000;
  return guint(std::clamp(kbps, kMinKbps, kMaxKbps));
}

guint frames_between_keys(const GstCaps* raw) {
  GstVideoInfo info;
  int fps = 30;
  if (gst_video_info_from_caps(&info, raw) && GST_VIDEO_INFO_FPS_N(&info) > 0)
    fps = GST_VIDEO_INFO_FPS_N(&info) / std::max(1, GST_VIDEO_INFO_FPS_D(&info));
  return guint(std::clamp(fps, 1, 120) * kKeyFrameIntervalS);
}

}  // namespace

Encoder choose_encoder(MediaKind kind) {
  for (const Codec& codec : codecs()) {
    if (codec.kind != kind) continue;
    for (const char* name : codec.encoders) {
      GstElementFactory* found = gst_element_factory_find(name);
      if (!found) continue;
      gst_object_unref(found);
      return {&codec, name};
    }
  }
  return {};
}

void tune_encoder(GstElement* encoder, const char* factory, const GstCaps* raw) {
  auto set = [encoder](const char* property, const std::string& value) {
    set_if_present(encoder, property, value.c_str());
  };
  if (g_str_equal(factory, "opusenc")) {
    set("inband-fec", "true");
    set("packet-loss-percentage", "10");  // without it the encoder adds no FEC
    set("frame-size", "20");
    return;
  }
  const std::string distance = std::to_string(frames_between_keys(raw));
  if (g_str_equal(factory, "x264enc")) {
    set("tune", "zerolatency");
    set("speed-preset", "superfast");
    set("bframes", "0");
    set("byte-stream", "true");
    set("aud", "false");
    set("key-int-max", distance);
    set("vbv-buf-capacity", "300");
  } else if (g_str_equal(factory, "openh264enc")) {
    set("complexity", "low");
    set("usage-type", "camera");
    set("rate-control", "bitrate");
    set("gop-size", distance);
  } else if (g_str_equal(factory, "vp8enc")) {
    set("deadline", "1");
    set("cpu-used", "8");
    set("error-resilient", "partitions");
    set("keyframe-max-dist", distance);
    set("end-usage", "cbr");
    set("lag-in-frames", "0");
    set("threads", "2");
  }
  adapt_encoder(encoder, factory, raw);
}

void adapt_encoder(GstElement* encoder, const char* factory, const GstCaps* raw) {
  if (g_str_equal(factory, "opusenc")) return;  // has nothing that depends on the caps
  const guint kbps = kbps_for(raw);
  if (g_str_equal(factory, "x264enc"))
    set_if_present(encoder, "bitrate", std::to_string(kbps).c_str());
  else if (g_str_equal(factory, "openh264enc"))
    set_if_present(encoder, "bitrate", std::to_string(kbps * 1000).c_str());
  else if (g_str_equal(factory, "vp8enc"))
    set_if_present(encoder, "target-bitrate", std::to_string(kbps * 1000).c_str());
}

}  // namespace cfr
