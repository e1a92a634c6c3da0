// One table of what can be sent and received: RTP names, encoded caps, elements. Read-only after
// start, any thread.
#pragma once

#include <gst/gst.h>

#include <string>
#include <vector>

#include "util/gst_ref.h"

namespace cfr {

enum class MediaKind { audio, video };

struct Codec {
  const char* name;           // RTP encoding-name, e.g. H264, OPUS, PCMU
  MediaKind kind;
  int clock_rate;             // Hz
  int payload_type;           // the one we offer; static for PCMU (0) and PCMA (8)
  const char* encoded_caps;   // what a user may hand in or take out
  const char* payloader;
  const char* depayloader;
  const char* parser;         // nullptr = none needed
  std::vector<const char*> encoders;  // raw -> encoded, in order of preference; may be empty
};

const std::vector<Codec>& codecs();
const Codec* codec_by_rtp_name(const std::string& encoding_name);
// For a pad's caps event: encoded or application/x-rtp caps -> the codec; nullptr if none or raw.
const Codec* codec_for_caps(const GstCaps* caps);

// Everything a sink pad of this kind takes: raw, encoded, application/x-rtp.
gref<GstCaps> sendable_caps(MediaKind kind);
// What a source pad can give for this codec (nullptr: for any codec of the kind): raw, encoded,
// application/x-rtp, in that order of preference.
gref<GstCaps> receivable_caps(MediaKind kind, const Codec* codec);

}  // namespace cfr
