#include "sfu/streams.h"

#include <algorithm>
#include <functional>

#include "wire/json.h"

namespace cfr::sfu {

namespace {
constexpr std::size_t kMaxDocuments = 1000, kMaxDocumentBytes = 64 * 1024, kMaxName = 128;

Streams::Reply problem(int status, const char* code, const std::string& text) {
  return {status, json::write(ApiError{code, text}), ""};
}
}  // namespace

Streams::Reply Streams::get(const std::string& name, const std::string& known) const {
  auto found = documents_.find(name);
  if (found == documents_.end()) return problem(404, "not_found", "There is no such stream");
  if (!known.empty() && known == found->second.etag) return {304, "", found->second.etag};
  return {200, found->second.body, found->second.etag};
}

Streams::Reply Streams::put(const std::string& name, const std::string& body) {
  bool good = !name.empty() && name.size() <= kMaxName &&
              std::all_of(name.begin(), name.end(), [](unsigned char c) {
                return std::isalnum(c) || c == '-' || c == '_' || c == '.';
              });
  if (!good) return problem(400, "invalid_params", "A name has letters, digits, '-', '_' and '.'");
  if (body.size() > kMaxDocumentBytes) return problem(413, "payload_too_large", "The document is too big");
  auto parsed = json::read_stream_document(body);
  if (!parsed) return problem(400, "decoding_error", parsed.error().message);
  bool fresh = !documents_.count(name);
  if (fresh && documents_.size() >= kMaxDocuments)
    return problem(507, "too_many_streams", "There are too many streams");
  Document& document = documents_[name];
  if (document.body != body) document = {body, "\"" + std::to_string(std::hash<std::string>{}(body)) + "\""};
  return {fresh ? 201 : 200, document.body, document.etag};
}

Streams::Reply Streams::remove(const std::string& name) {
  if (!documents_.erase(name)) return problem(404, "not_found", "There is no such stream");
  return {204, "", ""};
}

}  // namespace cfr::sfu
