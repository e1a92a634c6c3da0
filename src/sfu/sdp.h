// The SFU's session descriptions: any client's text in, ours out, in the style of the service
// (ice-lite, one session-level fingerprint, candidates in the first section only). Pure.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "sfu/media_section.h"
#include "sfu/transport.h"
#include "util/result.h"

namespace cfr::sfu {

enum class Direction { sendrecv, sendonly, recvonly, inactive };
Direction reversed(Direction direction);

// A section of a client's description.
struct ClientSection {
  std::string mid;
  std::string kind;       // audio, video, application
  bool rejected = false;  // port 0, and not merely bundle-only
  Direction direction = Direction::sendrecv;
  std::vector<MediaCodec> codecs;         // those the SFU knows, in the client's order
  std::map<std::string, int> extensions;  // uri -> id
  std::vector<SsrcPair> ssrcs;
  std::vector<std::string> rids;  // simulcast layers that are sent, in the client's order
  std::vector<std::string> formats;
  std::string protocol;
  bool named = false;    // has an a=mid
  bool bundled = false;  // in the client's BUNDLE group
  bool sends() const {
    return direction == Direction::sendonly || direction == Direction::sendrecv;
  }
  bool receives() const {
    return direction == Direction::recvonly || direction == Direction::sendrecv;
  }
};

struct ClientDescription {
  RemoteTransport transport;  // of the BUNDLE group
  std::vector<ClientSection> sections;
  bool has_bundle = false;   // there is a BUNDLE group
  bool allow_mixed = false;  // a=extmap-allow-mixed (RFC 8285)
};

// Errors: protocol, with the text the API gives ("SDP contains no ice-ufrag", ...).
Result<ClientDescription> read_description(std::string_view text);

// A section of ours.
struct OurSection {
  std::string mid, kind, protocol;
  Direction direction = Direction::inactive;
  bool rejected = false;
  std::vector<std::string> formats;  // of a rejected section, as the client wrote them
  std::vector<MediaCodec> codecs;    // of a rejected section, those the SFU knows
  std::map<std::string, int> extensions;  // uri -> id
  SsrcPair ssrcs;                         // of what we send
  std::string cname, stream_id;
  std::vector<std::string> receive_rids;
};

struct DescriptionHead {
  bool is_offer = false;
  uint64_t origin_id = 0, version = 0;
  bool we_are_client = false;  // of DTLS; in answers
  bool bundle = true;          // an answer to an offer without a group has none
  bool allow_mixed = true;
};
std::string write_description(const DescriptionHead& head, const LocalTransport& transport,
                              const std::vector<OurSection>& sections);

// The header extensions that the SFU understands.
ExtensionIds extension_ids(const std::map<std::string, int>& extensions);
const std::vector<std::string>& known_extensions(const std::string& kind);

// A section for data channels, as browsers write it since 2019 (RFC 8841).
bool is_data(const std::string& kind, const std::string& protocol);

// Case-insensitive.
bool same_codec(const std::string& a, const std::string& b);

}  // namespace cfr::sfu
