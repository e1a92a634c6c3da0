// Header rewriting: RTP of the application's making in cfrealtimesink, and the local SFU's writer.
#include <gst/gst.h>
#include <gst/rtp/rtp.h>

#include <cstring>

#include "fuzz/fuzz.h"
#include "media/rtp_input.h"
#include "sfu/packet.h"

using namespace cfr;

static void rewrite_in_the_sink(const uint8_t* data, size_t size) {
  static gref<GstCaps> caps = gref<GstCaps>::adopt(gst_caps_from_string(
      "application/x-rtp,media=video,encoding-name=H264,clock-rate=90000,payload=96,"
      "extmap-3=(string)urn:ietf:params:rtp-hdrext:toffset"));
  RtpInput input([](gref<GstCaps>) {});
  const Codec* codec = codec_for_caps(caps.get());
  input.set_caps(*codec, caps.get());
  input.set_mid("1");
  GstBuffer* buffer = size ? gst_buffer_new_memdup(data, size) : gst_buffer_new();
  input.inspect(buffer);
  GstRTPBuffer before = GST_RTP_BUFFER_INIT, after = GST_RTP_BUFFER_INIT;
  bool valid = gst_rtp_buffer_map(buffer, GST_MAP_READ, &before);
  guint16 sequence = valid ? gst_rtp_buffer_get_seq(&before) : 0;
  guint payload = valid ? gst_rtp_buffer_get_payload_len(&before) : 0;
  if (valid) gst_rtp_buffer_unmap(&before);
  GstBuffer* out = input.rewrite(buffer);
  if (!out) return;
  fuzz::require(gst_rtp_buffer_map(out, GST_MAP_READ, &after));
  if (valid) {
    fuzz::require(gst_rtp_buffer_get_seq(&after) == sequence);
    fuzz::require(gst_rtp_buffer_get_payload_len(&after) == payload);
  }
  gst_rtp_buffer_unmap(&after);
  gst_buffer_unref(out);
}

static void write_in_the_sfu(const uint8_t* data, size_t size) {
  auto packet = sfu::RtpPacket::parse({data, size});
  if (!packet) return;
  for (int id = 0; id < 256; ++id) packet->find(id);
  const uint8_t value[20] = {1};
  for (int id : {1, 14, 15, 200})
    for (size_t length : {0, 1, 16, 17, 20}) {
      std::vector<uint8_t> out;
      sfu::HeaderExtension extension{id, {value, length}};
      sfu::write_packet(out, *packet, {&extension, 1}, id == 14 ? 7 : -1);
      auto again = sfu::RtpPacket::parse(out);
      fuzz::require(again.has_value());
      fuzz::require(again->sequence == packet->sequence && again->ssrc == packet->ssrc &&
                    again->timestamp == packet->timestamp && again->marker == packet->marker);
      size_t added = id == 14 ? 2 : 0;  // RFC 4588
      fuzz::require(again->payload.size() == packet->payload.size() + added);
    }
}

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  gst_init(nullptr, nullptr);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 4096) return 0;
  rewrite_in_the_sink(data, size);
  write_in_the_sfu(data, size);
  return 0;
}
