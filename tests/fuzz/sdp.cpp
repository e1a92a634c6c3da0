// Descriptions from the network: the SFU's, as the elements read them, and clients', as the local
// SFU reads them.
#include <string>

#include "fuzz/fuzz.h"
#include "rtc/ice_servers.h"
#include "rtc/sdp.h"
#include "sfu/sdp.h"

using namespace cfr;

namespace {

// As webrtcbin makes it for two tracks.
constexpr char kGenerated[] =
    "v=0\r\no=- 1 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=ice-options:trickle\r\n"
    "a=group:BUNDLE 0 1\r\n"
    "m=audio 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=setup:actpass\r\n"
    "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=mid:0\r\na=sendonly\r\n"
    "a=rtcp-mux\r\na=rtpmap:96 OPUS/48000/2\r\na=ssrc:1 cname:x\r\n"
    "a=fingerprint:sha-256 "
    "00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:"
    "FF\r\n"
    "m=video 9 UDP/TLS/RTP/SAVPF 97\r\nc=IN IP4 0.0.0.0\r\na=setup:actpass\r\n"
    "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=mid:1\r\na=sendonly\r\n"
    "a=rtcp-mux\r\na=rtpmap:97 H264/90000\r\na=ssrc:2 cname:x\r\n"
    "a=fingerprint:sha-256 "
    "00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:"
    "FF\r\n";

uint32_t number = 0;
uint32_t next_number() {
  return ++number;
}

SdpTrack track(uint32_t id, const char* kind, uint32_t ssrc, int payload, const char* encoding) {
  SdpTrack track;
  track.id = id;
  track.name = std::string(kind) + "_0";
  track.kind = kind;
  track.ssrc = ssrc;
  track.format.payload = payload;
  track.format.encoding = encoding;
  return track;
}

void check(const Result<SdpDialog::Remote>& remote, size_t size) {
  // A hostile text must not grow without bound on its way to webrtcbin.
  if (remote) fuzz::require(remote->inner.size() < 64 * size + 65536);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string text(reinterpret_cast<const char*>(data), size);
  const std::set<std::string> receivable = {"H264", "VP8", "OPUS", "PCMU"};
  number = 0;
  {
    SdpDialog puller("token", receivable, next_number);
    auto remote = puller.remote_offer(text);
    check(remote, size);
    if (remote) {
      auto answer = puller.answer(kGenerated);
      puller.section_of(1, "0", 96, {});
      puller.close("0");
      check(puller.remote_offer(text), size);
      if (answer)
        SdpDialog::with_candidates(answer->wire, {"candidate:1 1 UDP 1 127.0.0.1 9 typ host"});
    }
  }
  {
    SdpDialog publisher("token", receivable, next_number);
    if (publisher.add_track(track(1, "audio", 1, 96, "OPUS/48000/2")) &&
        publisher.add_track(track(2, "video", 2, 97, "H264/90000")) &&
        publisher.offer(kGenerated)) {
      check(publisher.remote_answer(text), size);
      publisher.renumbered(1);
      publisher.repairs();
    }
  }
  auto client = sfu::read_description(text);
  if (client) {
    std::vector<sfu::OurSection> ours;
    for (const auto& section : client->sections) {
      sfu::OurSection mine;
      mine.mid = section.mid;
      mine.kind = section.kind;
      mine.protocol = section.protocol;
      mine.codecs = section.codecs;
      mine.extensions = section.extensions;
      mine.direction = sfu::reversed(section.direction);
      ours.push_back(mine);
    }
    sfu::LocalTransport transport;
    fuzz::require(!sfu::write_description({}, transport, ours).empty());
  } else {
    fuzz::require(!client.error().message.empty());
  }
  turn_uri(text, text, text);
  return 0;
}
