// What generate-ice-servers answers: STUN, and TURN with credentials of the kind that coturn checks
// with `use-auth-secret` (draft-uberti-behave-turn-rest-00). Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "wire/types.h"

namespace cfr::sfu {

struct IceServerSettings {
  std::vector<std::string> stun_urls = {"stun:stun.cloudflare.com:3478"};
  std::vector<std::string> turn_urls;  // turn: and turns:
  std::string turn_secret;             // coturn's static-auth-secret
  std::string key_token;               // the bearer that is asked for; "" = any
};

// User name is expiry (seconds since 1970) and identifier; the credential is its HMAC-SHA1.
std::vector<IceServer> make_ice_servers(const IceServerSettings& settings, int64_t now_s,
                                        unsigned ttl_s, const std::string& identifier);

struct IceServersReply {
  int status = 0;  // 0 = no such call
  std::string body;
};
// `path`: after /v1, e.g. /turn/keys/{key}/credentials/generate-ice-servers.
IceServersReply serve_ice_servers(const IceServerSettings& settings, std::string_view method,
                                  std::string_view path, const std::string& bearer,
                                  const std::string& body, int64_t now_s);

}  // namespace cfr::sfu
