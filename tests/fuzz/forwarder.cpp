// Hostile RTP and RTCP from a publisher and from a puller. The input is a list of packets; each may
// be left as it is or given a plausible header, so that mutations get past the first checks.
#include "sfu/forwarder.h"

#include <cstring>

#include "fuzz/fuzz.h"

using namespace cfr;
using namespace cfr::sfu;

namespace {

constexpr uint32_t kSsrc = 0x11111111, kRtx = 0x22222222, kOut = 0x33333333, kOutRtx = 0x44444444;

struct Output : Forwarder::Output {
  void send_rtp(const std::string& session, Bytes packet) override {
    fuzz::require(session == "player");
    auto parsed = RtpPacket::parse(packet);
    fuzz::require(parsed.has_value());
    fuzz::require(parsed->ssrc == kOut || parsed->ssrc == kOutRtx);
    fuzz::require(packet.size() <= 2048 + 64);
  }
  void send_rtcp(const std::string&, Bytes packet) override {
    fuzz::require(packet.size() >= 4 && packet.size() % 4 == 0 && packet[0] >> 6 == 2);
  }
  void media_started(const TrackAddress&) override {}
};

MediaSection section(const char* kind, bool in) {
  MediaSection section;
  section.mid = "0";
  section.kind = kind;
  MediaCodec codec;
  codec.name = "H264";
  codec.payload_type = in ? 96 : 102;
  codec.rtx_payload_type = in ? 97 : 103;
  codec.nack = codec.pli = codec.fir = codec.transport_cc = true;
  section.codecs = {codec};
  section.extensions = in ? ExtensionIds{4, 5, 6, 3, 2, 1} : ExtensionIds{9, 0, 0, 12, 13, 0};
  if (in) section.ssrcs = {{kSsrc, kRtx}};
  return section;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Output output;
  Forwarder forwarder(output, 0, 1);
  int64_t now = 1000000;
  forwarder.set_connected("camera", true, now);
  forwarder.set_connected("player", true, now);
  forwarder.set_ingress({"camera", "0"}, section("video", true));
  forwarder.set_egress({"player", "0"}, {"camera", "0"}, section("video", false), {kOut, kOutRtx},
                       "cname", {}, now);
  uint16_t sequence = 0xfff0;
  uint8_t packet[2048];
  while (size >= 3) {
    uint8_t how = data[0];
    size_t length = std::min<size_t>(data[1] | (data[2] & 7) << 8, size - 3);
    const uint8_t* bytes = data + 3;
    data += 3 + length;
    size -= 3 + length;
    std::memcpy(packet, bytes, length);
    const bool puller = how & 1, rtcp = how & 2;
    if (how & 4 && length >= 12) {
      if (rtcp) {
        packet[0] = uint8_t(0x80 | (packet[0] & 0x3f));
        packet[1] = uint8_t(200 + packet[1] % 8);
        length &= ~size_t(3);
        write16(packet + 2, uint16_t(length / 4 - 1));
        if (how & 8) write32(packet + 8, puller ? kOut : kSsrc);
      } else {
        packet[0] = uint8_t(0x80 | (packet[0] & 0x3f));
        packet[1] = uint8_t((packet[1] & 0x80) | (how & 8 ? 97 : 96));
        sequence = uint16_t(sequence + (how >> 6));
        write16(packet + 2, sequence);
        write32(packet + 8, how & 8 ? kRtx : kSsrc);
      }
    }
    const char* session = puller ? "player" : "camera";
    if (rtcp)
      forwarder.on_rtcp(session, {packet, length}, now);
    else
      forwarder.on_rtp(session, {packet, length}, now);
    now += 1000 * (how >> 4);
    if (how & 16) forwarder.on_tick(now);
  }
  forwarder.on_tick(now + 100000);
  forwarder.ingress_stats();
  forwarder.egress_stats();
  forwarder.session_stats();
  return 0;
}
