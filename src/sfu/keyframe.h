// Looks into payloads just far enough to see whether a key frame begins. Pure.
#pragma once

#include <optional>
#include <string>

#include "sfu/packet.h"

namespace cfr::sfu {

// Whether `payload` is the first packet of a key frame; nullopt for codecs it does not know.
// H264 (RFC 6184), H265 (RFC 7798), VP8 (RFC 7741), VP9 (RFC 9628), AV1 (AOM's RTP format).
std::optional<bool> starts_key_frame(const std::string& codec, Bytes payload);

}  // namespace cfr::sfu
