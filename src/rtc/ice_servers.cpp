#include "rtc/ice_servers.h"

#include <glib.h>

namespace cfr {

namespace {
std::string percent_encode(const std::string& text) {
  g_autofree char* encoded = g_uri_escape_string(text.c_str(), nullptr, FALSE);
  return encoded;
}
}  // namespace

std::string turn_uri(const std::string& url, const std::string& username,
                     const std::string& credential) {
  std::string scheme, rest;
  for (const char* known : {"turns:", "turn:"}) {
    if (url.compare(0, std::string(known).size(), known) != 0) continue;
    scheme = std::string(known).substr(0, std::string(known).size() - 1);
    rest = url.substr(std::string(known).size());
    break;
  }
  if (scheme.empty() || username.empty() || credential.empty()) return "";
  if (rest.compare(0, 2, "//") == 0) rest = rest.substr(2);
  std::string host_port = rest.substr(0, rest.find('?'));
  if (host_port.empty() || host_port.find('@') != std::string::npos) return "";
  auto bracket = host_port.find(']');
  auto colon = host_port.find(':', bracket == std::string::npos ? 0 : bracket);
  if (colon != std::string::npos && host_port.substr(colon + 1) == "53") return "";
  return scheme + "://" + percent_encode(username) + ":" + percent_encode(credential) + "@" + rest;
}

}  // namespace cfr
