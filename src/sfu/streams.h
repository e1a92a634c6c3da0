// The stream documents that the local SFU keeps (docs/stream-url.md): small JSON texts by name, with
// a version. Pure; waiting for a change is the caller's.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace cfr::sfu {

class StreamStore {
 public:
  static constexpr std::size_t kMaxNameLength = 128;
  static constexpr std::size_t kMaxBytes = 64 << 10;  // of a document
  static constexpr std::size_t kMaxStreams = 1000;

  struct Entry {
    std::string document;  // JSON
    std::string etag;      // with its quotation marks
  };

  // `epoch` makes the tags of one run differ from those of another.
  explicit StreamStore(uint64_t epoch) : epoch_(epoch) {}

  // Letters, digits, "-", "_", "." and not only dots.
  static bool is_name(std::string_view name);

  const Entry* find(const std::string& name) const;
  struct PutResult {
    int status = 200;     // 200, 201; 400 with the reason, 413, 507
    std::string problem;  // for the user
    std::string etag;
    bool changed = false;
  };
  PutResult put(const std::string& name, const std::string& document);
  // False if there was none.
  bool remove(const std::string& name);

  // Whether an If-None-Match header (RFC 9110, 13.1.2) names this tag.
  static bool matches(std::string_view if_none_match, std::string_view etag);
  // Seconds from a Prefer header (RFC 7240, 4.3), at most 60; 0 = no waiting.
  static unsigned wait_s(std::string_view prefer);

 private:
  uint64_t epoch_;
  uint64_t version_ = 0;
  std::map<std::string, Entry, std::less<>> streams_;
};

}  // namespace cfr::sfu
