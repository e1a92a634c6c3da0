// One table of what can be sent and received: RTP names, encoded caps, elements. Read-only after
// start, any thread.
#pragma once

#include <gst/gst.h>

#include <string>
#include <vector>

#include "util/gst_ref.h"

namespace cfr {

enum class MediaKind { audio, video };

// Ids of the RTP header extensions (RFC 8285) in the packets we send; offers name the same ones.
namespace extension_id {
inline constexpr unsigned audio_level = 1;    // not sent
inline constexpr unsigned abs_send_time = 2;  // not sent
inline constexpr unsigned twcc = 3;           // written by webrtcbin's session
inline constexpr unsigned mid = 4;
}  // namespace extension_id
inline constexpr const char* kTwccUri =
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
inline constexpr const char* kMidUri = "urn:ietf:params:rtp-hdrext:sdes:mid";

struct Codec {
  const char* name;  // RTP encoding-name, e.g. H264, OPUS, PCMU
  MediaKind kind;
  int clock_rate;            // Hz
  int payload_type;          // the one we offer; static for PCMU (0) and PCMA (8)
  const char* encoded_caps;  // what a user may hand in or take out
  const char* payloader;
  const char* depayloader;
  const char* parser;                 // nullptr = none needed
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

// The Debian package that holds an element used here.
const char* package_of(const std::string& element);

// Sets a property from text if the element has it: which do differs by element and version.
void set_if_present(GstElement* element, const char* property, const char* value);

}  // namespace cfr
