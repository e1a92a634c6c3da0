// Stream documents of /streams/{name}, kept in memory (docs/stream-url.md). Pure.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace cfr::sfu {

class Streams {
 public:
  struct Reply {
    int status = 200;
    std::string body, etag;
  };
  // `known`: of If-None-Match, "" if absent.
  Reply get(const std::string& name, const std::string& known) const;
  Reply put(const std::string& name, const std::string& body);
  Reply remove(const std::string& name);
  void clear() { documents_.clear(); }

 private:
  struct Document {
    std::string body, etag;  // of the contents, so that it holds across a restart
  };
  std::map<std::string, Document> documents_;
};

}  // namespace cfr::sfu
