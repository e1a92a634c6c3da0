#include "media/codecs.h"

namespace cfr {

const std::vector<Codec>& codecs() {
  // Payload types of the dynamic range as browsers use them; 0 and 8 are static (RFC 3551).
  static const std::vector<Codec> table = {
      {"H264",
       MediaKind::video,
       90000,
       102,
       "video/x-h264, stream-format=(string){ avc, avc3 }, alignment=(string)au; "
       "video/x-h264, stream-format=(string)byte-stream",
       "rtph264pay",
       "rtph264depay",
       "h264parse",
       {"x264enc", "openh264enc"}},
      {"VP8",
       MediaKind::video,
       90000,
       96,
       "video/x-vp8",
       "rtpvp8pay",
       "rtpvp8depay",
       nullptr,
       {"vp8enc"}},
      {"VP9", MediaKind::video, 90000, 98, "video/x-vp9", "rtpvp9pay", "rtpvp9depay", nullptr, {}},
      {"H265",
       MediaKind::video,
       90000,
       104,
       "video/x-h265, stream-format=(string){ hvc1, hev1 }, alignment=(string)au; "
       "video/x-h265, stream-format=(string)byte-stream",
       "rtph265pay",
       "rtph265depay",
       "h265parse",
       {}},
      {"OPUS",
       MediaKind::audio,
       48000,
       111,
       "audio/x-opus",
       "rtpopuspay",
       "rtpopusdepay",
       nullptr,
       {"opusenc"}},
      {"PCMU",
       MediaKind::audio,
       8000,
       0,
       "audio/x-mulaw, rate=(int)8000, channels=(int)1",
       "rtppcmupay",
       "rtppcmudepay",
       nullptr,
       {}},
      {"PCMA",
       MediaKind::audio,
       8000,
       8,
       "audio/x-alaw, rate=(int)8000, channels=(int)1",
       "rtppcmapay",
       "rtppcmadepay",
       nullptr,
       {}},
  };
  return table;
}

const Codec* codec_by_rtp_name(const std::string& encoding_name) {
  for (const Codec& codec : codecs())
    if (g_ascii_strcasecmp(codec.name, encoding_name.c_str()) == 0) return &codec;
  return nullptr;
}

const Codec* codec_for_caps(const GstCaps* caps) {
  if (!caps || gst_caps_is_empty(caps) || gst_caps_is_any(caps)) return nullptr;
  const GstStructure* structure = gst_caps_get_structure(caps, 0);
  if (gst_structure_has_name(structure, "application/x-rtp")) {
    if (const char* name = gst_structure_get_string(structure, "encoding-name"))
      return codec_by_rtp_name(name);
    int payload = -1;  // the static ones need no name (RFC 3551)
    gst_structure_get_int(structure, "payload", &payload);
    return payload == 0   ? codec_by_rtp_name("PCMU")
           : payload == 8 ? codec_by_rtp_name("PCMA")
                          : nullptr;
  }
  for (const Codec& codec : codecs()) {
    g_autoptr(GstCaps) encoded = gst_caps_from_string(codec.encoded_caps);
    if (gst_structure_has_name(structure,
                               gst_structure_get_name(gst_caps_get_structure(encoded, 0))))
      return &codec;
  }
  return nullptr;
}

namespace {

gref<GstCaps> rtp_caps(const Codec& codec) {
  return gref<GstCaps>::adopt(gst_caps_new_simple(
      "application/x-rtp", "media", G_TYPE_STRING,
      codec.kind == MediaKind::video ? "video" : "audio", "encoding-name", G_TYPE_STRING,
      codec.name, "clock-rate", G_TYPE_INT, codec.clock_rate, nullptr));
}

// Raw, then encoded, then RTP; of one codec, or of all of the kind.
gref<GstCaps> caps_of(MediaKind kind, const Codec* only) {
  GstCaps* caps =
      gst_caps_new_empty_simple(kind == MediaKind::video ? "video/x-raw" : "audio/x-raw");
  for (const Codec& codec : codecs())
    if (codec.kind == kind && (!only || only == &codec))
      gst_caps_append(caps, gst_caps_from_string(codec.encoded_caps));
  for (const Codec& codec : codecs())
    if (codec.kind == kind && (!only || only == &codec))
      gst_caps_append(caps, rtp_caps(codec).release());
  return gref<GstCaps>::adopt(caps);
}

}  // namespace

gref<GstCaps> sendable_caps(MediaKind kind) {
  return caps_of(kind, nullptr);
}

gref<GstCaps> receivable_caps(MediaKind kind, const Codec* codec) {
  return caps_of(kind, codec);
}

const char* package_of(const std::string& element) {
  static const struct {
    const char *element, *package;
  } known[] = {{"x264enc", "gstreamer1.0-plugins-ugly"},
               {"openh264enc", "gstreamer1.0-plugins-bad"},
               {"h264parse", "gstreamer1.0-plugins-bad"},
               {"h265parse", "gstreamer1.0-plugins-bad"},
               {"identity", "libgstreamer1.0-0"},
               {"clocksync", "libgstreamer1.0-0"},
               {"capsfilter", "libgstreamer1.0-0"},
               {"videoconvert", "gstreamer1.0-plugins-base"},
               {"videoscale", "gstreamer1.0-plugins-base"},
               {"audioconvert", "gstreamer1.0-plugins-base"},
               {"audioresample", "gstreamer1.0-plugins-base"},
               {"opusenc", "gstreamer1.0-plugins-base"}};
  for (const auto& row : known)
    if (element == row.element) return row.package;
  return "gstreamer1.0-plugins-good";  // vp8enc, deinterlace, payloaders, depayloaders
}

void set_if_present(GstElement* element, const char* property, const char* value) {
  if (g_object_class_find_property(G_OBJECT_GET_CLASS(element), property))
    gst_util_set_object_arg(G_OBJECT(element), property, value);
}

}  // namespace cfr
