#include "sfu/packet.h"

#include <algorithm>

namespace cfr::sfu {

namespace {

constexpr uint16_t kOneByte = 0xBEDE, kTwoByte = 0x1000;

}  // namespace

std::optional<RtpPacket> RtpPacket::parse(Bytes data) {
  if (data.size() < 12 || data[0] >> 6 != 2) return std::nullopt;
  RtpPacket packet;
  std::size_t at = 12 + std::size_t(data[0] & 0x0f) * 4;
  packet.marker = data[1] & 0x80;
  packet.payload_type = data[1] & 0x7f;
  packet.sequence = read16(&data[2]);
  packet.timestamp = read32(&data[4]);
  packet.ssrc = read32(&data[8]);
  if (data[0] & 0x10) {
    if (at + 4 > data.size()) return std::nullopt;
    packet.profile = read16(&data[at]);
    std::size_t length = std::size_t(read16(&data[at + 2])) * 4;
    at += 4;
    if (at + length > data.size()) return std::nullopt;
    packet.extension = data.subspan(at, length);
    at += length;
  }
  if (at > data.size()) return std::nullopt;
  std::size_t end = data.size();
  if (data[0] & 0x20) {
    packet.padding = data.back();
    if (packet.padding == 0 || at + packet.padding > end) return std::nullopt;
    end -= packet.padding;
  }
  packet.payload = data.subspan(at, end - at);
  return packet;
}

Bytes RtpPacket::find(int id) const {
  if (id <= 0) return {};
  if (profile == kOneByte) {
    for (std::size_t at = 0; at < extension.size();) {
      int found = extension[at] >> 4;
      std::size_t length = std::size_t(extension[at] & 0x0f) + 1;
      if (extension[at] == 0) {  // padding
        ++at;
        continue;
      }
      if (found == 15 || at + 1 + length > extension.size()) return {};
      if (found == id) return extension.subspan(at + 1, length);
      at += 1 + length;
    }
  } else if ((profile & 0xfff0) == kTwoByte) {
    for (std::size_t at = 0; at + 1 < extension.size();) {
      if (extension[at] == 0) {
        ++at;
        continue;
      }
      std::size_t length = extension[at + 1];
      if (at + 2 + length > extension.size()) return {};
      if (extension[at] == id) return extension.subspan(at + 2, length);
      at += 2 + length;
    }
  }
  return {};
}

void write_packet(std::vector<uint8_t>& out, const RtpPacket& packet,
                  std::span<const HeaderExtension> extensions, int original_sequence) {
  constexpr uint8_t kFiller = 4;  // bytes of padding when there is nothing else
  bool filler = packet.payload.empty() && original_sequence < 0;
  out.resize(12);
  out[0] = uint8_t(0x80 | (filler ? 0x20 : 0));
  out[1] = uint8_t((packet.marker ? 0x80 : 0) | (packet.payload_type & 0x7f));
  write16(&out[2], packet.sequence);
  write32(&out[4], packet.timestamp);
  write32(&out[8], packet.ssrc);

  auto usable = [](const HeaderExtension& e) {
    return e.id >= 1 && e.id <= 255 && !e.value.empty() && e.value.size() <= 255;
  };
  bool any = false, two_bytes = false;
  for (const HeaderExtension& e : extensions) {
    if (!usable(e)) continue;
    any = true;
    two_bytes = two_bytes || e.id > 14 || e.value.size() > 16;
  }
  if (any) {
    out[0] |= 0x10;
    std::size_t start = out.size();
    out.resize(start + 4);
    write16(&out[start], two_bytes ? kTwoByte : kOneByte);
    for (const HeaderExtension& e : extensions) {
      if (!usable(e)) continue;
      if (two_bytes) {
        out.push_back(uint8_t(e.id));
        out.push_back(uint8_t(e.value.size()));
      } else {
        out.push_back(uint8_t(e.id << 4 | int(e.value.size() - 1)));
      }
      out.insert(out.end(), e.value.begin(), e.value.end());
    }
    while (out.size() % 4) out.push_back(0);
    write16(&out[start + 2], uint16_t((out.size() - start - 4) / 4));
  }
  if (original_sequence >= 0) {
    out.push_back(uint8_t(original_sequence >> 8));
    out.push_back(uint8_t(original_sequence));
  }
  out.insert(out.end(), packet.payload.begin(), packet.payload.end());
  if (filler) {
    out.resize(out.size() + kFiller, 0);
    out.back() = kFiller;
  }
}

}  // namespace cfr::sfu
