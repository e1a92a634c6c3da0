#include "media/rtp_input.h"

#include <cstring>

namespace cfr {

namespace {

// A new SSRC is believed when so many packets in a row have it: a stray one changes nothing.
constexpr unsigned kPacketsOfNewSsrc = 16;
constexpr std::size_t kFixedHeader = 12;  // RFC 3550 5.1
constexpr std::size_t kMaxHeader = kFixedHeader + 15 * 4;
constexpr std::size_t kMaxExtensions = 4 + 24;  // 0xBEDE, length, TWCC 3, MID 17, padding

gboolean is_kept(GQuark field, GValue*, gpointer) {
  const char* name = g_quark_to_string(field);
  return !(g_str_has_prefix(name, "extmap-") || g_str_has_prefix(name, "ssrc-") ||
           g_str_has_prefix(name, "a-") || g_str_has_prefix(name, "rtcp-fb-") ||
           g_str_has_prefix(name, "rid-") || g_str_equal(name, "npt-start") ||
           g_str_equal(name, "npt-stop") || g_str_equal(name, "play-speed") ||
           g_str_equal(name, "play-scale") || g_str_equal(name, "onvif-mode") ||
           g_str_equal(name, "seqnum-base") || g_str_equal(name, "clock-base"));
}

}  // namespace

RtpInput::RtpInput(std::function<void(gref<GstCaps>)> changed) : changed_(std::move(changed)) {}

gref<GstCaps> RtpInput::set_caps(const Codec& codec, const GstCaps* caps) {
  GstCaps* own = gst_caps_copy(caps);
  GstStructure* structure = gst_caps_get_structure(own, 0);
  gst_structure_filter_and_map_in_place(structure, is_kept, nullptr);
  gst_structure_set(
      structure, "media", G_TYPE_STRING, codec.kind == MediaKind::video ? "video" : "audio",
      "encoding-name", G_TYPE_STRING, codec.name,
      ("extmap-" + std::to_string(extension_id::twcc)).c_str(), G_TYPE_STRING, kTwccUri,
      ("extmap-" + std::to_string(extension_id::mid)).c_str(), G_TYPE_STRING, kMidUri, nullptr);
  if (!gst_structure_has_field(structure, "clock-rate"))
    gst_structure_set(structure, "clock-rate", G_TYPE_INT, codec.clock_rate, nullptr);
  guint ssrc = 0;
  int payload = -1;
  bool told = gst_structure_get_uint(structure, "ssrc", &ssrc);
  gst_structure_get_int(structure, "payload", &payload);
  caps_ = gref<GstCaps>::adopt(own);
  if (told && ssrc_ != int64_t(ssrc)) {
    ssrc_ = ssrc;
    reported_ = false;
  }
  if (payload >= 0 && payload_ != payload) {
    payload_ = payload;
    reported_ = false;
  }
  if (ssrc_ >= 0 && payload_ >= 0 && !reported_) report();
  return caps_;
}

void RtpInput::report() {
  reported_ = true;
  GstCaps* caps = gst_caps_copy(caps_.get());
  gst_caps_set_simple(caps, "ssrc", G_TYPE_UINT, guint(ssrc_), "payload", G_TYPE_INT, int(payload_),
                      nullptr);
  changed_(gref<GstCaps>::adopt(caps));
}

void RtpInput::inspect(GstBuffer* packet) {
  if (!caps_) return;
  guint8 header[kFixedHeader];
  if (gst_buffer_extract(packet, 0, header, sizeof header) != sizeof header || header[0] >> 6 != 2)
    return;
  uint32_t ssrc = GST_READ_UINT32_BE(header + 8);
  if (G_LIKELY(int64_t(ssrc) == ssrc_ && payload_ >= 0)) {
    others_ = 0;
    return;
  }
  if (ssrc_ >= 0 && int64_t(ssrc) != ssrc_) {
    if (others_ == 0 || ssrc != other_ssrc_) others_ = 0;
    other_ssrc_ = ssrc;
    if (++others_ < kPacketsOfNewSsrc) return;
  }
  others_ = 0;
  ssrc_ = ssrc;
  if (payload_ < 0) payload_ = header[1] & 0x7f;
  report();
}

void RtpInput::set_mid(const std::string& mid) {
  mid_length_.store(0, std::memory_order_release);
  if (mid.size() > sizeof mid_) return;
  std::memcpy(mid_, mid.data(), mid.size());
  mid_length_.store(uint8_t(mid.size()), std::memory_order_release);
}

GstBuffer* RtpInput::rewrite(GstBuffer* packet) const {
  const gsize size = gst_buffer_get_size(packet);
  guint8 head[kMaxHeader + 4];
  const gsize got = gst_buffer_extract(packet, 0, head, sizeof head);
  const gsize header = kFixedHeader + (got ? head[0] & 0x0f : 0) * 4;
  const bool extended = got && (head[0] & 0x10);
  gsize payload = header + (extended ? 4 : 0);
  // The second byte of RTCP is within this range, that of RTP is not (RFC 5761, section 4).
  const bool rtcp = got > 1 && head[1] >= 192 && head[1] <= 223;
  if (got < payload || head[0] >> 6 != 2 || rtcp) {
    gst_buffer_unref(packet);
    return nullptr;
  }
  if (extended) payload += GST_READ_UINT16_BE(head + header + 2) * 4;
  guint8 padding = 0;
  const bool padded = head[0] & 0x20;
  if (padded) gst_buffer_extract(packet, size - 1, &padding, 1);
  if (payload > size || (padded && (padding == 0 || payload + padding > size))) {
    gst_buffer_unref(packet);
    return nullptr;
  }

  guint8 extensions[kMaxExtensions] = {0xbe, 0xde};  // one-byte headers, RFC 8285 4.2
  std::size_t end = 4;
  extensions[end] = guint8(extension_id::twcc << 4 | (2 - 1));
  end += 1 + 2;
  if (std::size_t length = mid_length_.load(std::memory_order_acquire)) {
    extensions[end++] = guint8(extension_id::mid << 4 | (length - 1));
    std::memcpy(extensions + end, mid_, length);
    end += length;
  }
  end = (end + 3) / 4 * 4;
  GST_WRITE_UINT16_BE(extensions + 2, guint16(end / 4 - 1));
  head[0] |= 0x10;

  GstMemory* memory = gst_allocator_alloc(nullptr, header + end, nullptr);
  GstMapInfo map;
  gst_memory_map(memory, &map, GST_MAP_WRITE);
  std::memcpy(map.data, head, header);
  std::memcpy(map.data + header, extensions, end);
  gst_memory_unmap(memory, &map);
  auto flags =
      GstBufferCopyFlags(GST_BUFFER_COPY_METADATA | (payload < size ? GST_BUFFER_COPY_MEMORY : 0));
  GstBuffer* out = gst_buffer_copy_region(packet, flags, payload, size - payload);
  gst_buffer_prepend_memory(out, memory);
  // Of a part that does not begin at 0, these are not copied.
  GST_BUFFER_PTS(out) = GST_BUFFER_PTS(packet);
  GST_BUFFER_DTS(out) = GST_BUFFER_DTS(packet);
  GST_BUFFER_DURATION(out) = GST_BUFFER_DURATION(packet);
  gst_buffer_unref(packet);
  return out;
}

}  // namespace cfr
