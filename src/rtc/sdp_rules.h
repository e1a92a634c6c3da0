// Small judgements about SDP that SdpDialog is made of. Pure.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "rtc/sdp_text.h"
#include "util/error.h"

namespace cfr {

namespace sdp_rules {

Error failure(ErrorKind kind, std::string message);
Error protocol_error(std::string message);

// The same codec, whatever its parameters.
bool same_codec(const SdpFormat& a, const SdpFormat& b);
bool is_media(const std::string& kind);
bool is_ice_text(const std::string& text, size_t min);
bool is_mid(const std::string& mid);
// RFC 8830: an msid identifier is a token of at most 64 characters.
bool is_msid_id(const std::string& name);

struct Fingerprint {
  std::string algorithm, value;  // lower case, upper case
};
// The first fingerprint of a usable algorithm.
std::optional<Fingerprint> find_fingerprint(const SdpAttributes& attributes);

enum class Direction { sendrecv, sendonly, recvonly, inactive };
Direction direction_of(const SdpText& sdp, const SdpSection& section);
bool sends(Direction direction);
// Port 0 means rejected, unless the section only waits for its bundle (RFC 8843 6).
bool is_rejected(const SdpSection& section);

// `value` if webrtcbin can use the candidate: UDP, component 1 (rtcp-mux), an address, not a name.
std::optional<std::string> usable_candidate(const std::string& value);
// Only what can go into caps without colliding with the fields that GStreamer puts there itself.
std::string tidy_fmtp(const std::string& fmtp);
// Adds what a codec's peers expect to read and payloaders do not say.
void complete_fmtp(SdpFormat& format);
// Feedback that both we and webrtcbin understand (RFC 4585, RFC 5104, draft-holmer-rmcat).
std::vector<std::string> known_feedback(const std::vector<std::string>& feedback);

}  // namespace sdp_rules

// Hash of a PEM certificate in the form of a=fingerprint; "" if it is not one, or if `algorithm` is
// none of sha-256, sha-384, sha-512 (RFC 8122).
std::string certificate_fingerprint(const std::string& pem, const std::string& algorithm);

}  // namespace cfr
