// ICE server URLs as the TURN API gives them, rewritten for webrtcbin. Pure, any thread.
#pragma once

#include <string>

namespace cfr {

// turn:host:port?transport=udp + credentials -> turn://user:pass@host:port?transport=udp, both
// percent-encoded (webrtcbin refuses a raw '/' and misreads a raw ':'). "" for what is of no use:
// STUN URLs, unknown schemes, and port 53, which is often filtered and then delays gathering
// (https://developers.cloudflare.com/realtime/turn/).
std::string turn_uri(const std::string& url, const std::string& username,
                     const std::string& credential);

}  // namespace cfr
