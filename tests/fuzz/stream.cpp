// The stream document, as a player reads it and as the local SFU keeps it.
#include "fuzz/fuzz.h"
#include "sfu/streams.h"
#include "wire/json.h"

using namespace cfr;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string text(reinterpret_cast<const char*>(data), size);
  auto document = json::read_stream_document(text);
  if (document) {
    std::string written = json::write(*document);
    auto again = json::read_stream_document(written);
    fuzz::require(again && *again == *document);
  }
  sfu::Streams streams;
  auto put = streams.put("cam", text);
  auto got = streams.get("cam", "");
  fuzz::require((put.status / 100 == 2) == (got.status == 200));
  if (got.status == 200) {
    fuzz::require(bool(json::read_stream_document(got.body)));
    fuzz::require(streams.get("cam", got.etag).status == 304);
  }
  return 0;
}
