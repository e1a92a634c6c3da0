#include "sfu/packet.h"

#include <algorithm>

namespace cfr::sfu {

namespace {

constexpr int kSenderReport = 200, kReceiverReport = 201, kDescription = 202, kBye = 203,
              kTransportFeedback = 205, kPayloadFeedback = 206;
constexpr std::size_t kMaxFeedbackPackets = 1000;

void header(std::vector<uint8_t>& out, int count, int type, std::size_t bytes_after_header) {
  out.push_back(uint8_t(0x80 | count));
  out.push_back(uint8_t(type));
  std::size_t words = bytes_after_header / 4;
  out.push_back(uint8_t(words >> 8));
  out.push_back(uint8_t(words));
}

void put32(std::vector<uint8_t>& out, uint32_t v) {
  uint8_t bytes[4];
  write32(bytes, v);
  out.insert(out.end(), bytes, bytes + 4);
}

void put16(std::vector<uint8_t>& out, uint16_t v) {
  out.push_back(uint8_t(v >> 8));
  out.push_back(uint8_t(v));
}

RtcpReportBlock read_block(const uint8_t* p) {
  RtcpReportBlock block;
  block.ssrc = read32(p);
  block.fraction_lost = p[4];
  uint32_t lost = read24(p + 5);
  block.lost = lost & 0x800000 ? int32_t(lost | 0xff000000) : int32_t(lost);
  block.highest = read32(p + 8);
  block.jitter = read32(p + 12);
  block.last_sr = read32(p + 16);
  block.delay_since_sr = read32(p + 20);
  return block;
}

void put_block(std::vector<uint8_t>& out, const RtcpReportBlock& block) {
  put32(out, block.ssrc);
  put32(out, uint32_t(block.fraction_lost) << 24 | (uint32_t(block.lost) & 0xffffff));
  put32(out, block.highest);
  put32(out, block.jitter);
  put32(out, block.last_sr);
  put32(out, block.delay_since_sr);
}

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
  if (profile == 0xBEDE) {
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
  } else if ((profile & 0xfff0) == 0x1000) {
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

RtcpContent RtcpContent::parse(Bytes data) {
  RtcpContent content;
  while (data.size() >= 4 && data[0] >> 6 == 2) {
    std::size_t length = (std::size_t(read16(&data[2])) + 1) * 4;
    if (length > data.size()) break;
    Bytes packet = data.first(length);
    data = data.subspan(length);
    int count = packet[0] & 0x1f;
    int type = packet[1];
    std::size_t at = 8;
    if (packet.size() < 8 && type != kBye) continue;
    switch (type) {
      case kSenderReport:
        if (packet.size() < 28) break;
        content.sender_reports.push_back(
            {read32(&packet[4]),
             {uint64_t(read32(&packet[8])) << 32 | read32(&packet[12]), read32(&packet[16]),
              read32(&packet[20]), read32(&packet[24])}});
        at = 28;
        [[fallthrough]];
      case kReceiverReport:
        for (int i = 0; i < count && at + 24 <= packet.size(); ++i, at += 24)
          content.reports.push_back(read_block(&packet[at]));
        break;
      case kBye:
        for (std::size_t i = 4; count > 0 && i + 4 <= packet.size(); i += 4, --count)
          content.byes.push_back(read32(&packet[i]));
        break;
      case kTransportFeedback:
        if (packet.size() < 12) break;
        if (count == 15) {
          ++content.transport_feedback;
        } else if (count == 1) {
          RtcpContent::Nack nack{read32(&packet[8]), {}};
          for (at = 12; at + 4 <= packet.size() && nack.sequences.size() < 1024; at += 4) {
            uint16_t first = read16(&packet[at]), mask = read16(&packet[at + 2]);
            nack.sequences.push_back(first);
            for (int bit = 0; bit < 16; ++bit)
              if (mask >> bit & 1) nack.sequences.push_back(uint16_t(first + bit + 1));
          }
          content.nacks.push_back(std::move(nack));
        }
        break;
      case kPayloadFeedback:
        if (packet.size() < 12) break;
        if (count == 1) content.key_frame_requests.push_back(read32(&packet[8]));
        if (count == 4)  // FIR: the SSRCs stand in the entries (RFC 5104)
          for (at = 12; at + 8 <= packet.size(); at += 8)
            content.key_frame_requests.push_back(read32(&packet[at]));
        break;
    }
  }
  return content;
}

void append_receiver_report(std::vector<uint8_t>& out, uint32_t sender,
                            const std::vector<RtcpReportBlock>& blocks) {
  std::size_t at = 0;
  do {  // at most 31 blocks a packet
    std::size_t n = std::min<std::size_t>(31, blocks.size() - at);
    header(out, int(n), kReceiverReport, 4 + 24 * n);
    put32(out, sender);
    for (std::size_t i = 0; i < n; ++i) put_block(out, blocks[at + i]);
    at += n;
  } while (at < blocks.size());
}

void append_sender_report(std::vector<uint8_t>& out, uint32_t ssrc, const RtcpSenderInfo& info) {
  header(out, 0, kSenderReport, 24);
  put32(out, ssrc);
  put32(out, uint32_t(info.ntp >> 32));
  put32(out, uint32_t(info.ntp));
  put32(out, info.rtp);
  put32(out, info.packets);
  put32(out, info.bytes);
}

void append_cname(std::vector<uint8_t>& out, uint32_t ssrc, const std::string& cname) {
  std::size_t length = std::min<std::size_t>(cname.size(), 255);
  std::size_t chunk = (4 + 2 + length + 1 + 3) / 4 * 4;  // ends with one to four zeros
  header(out, 1, kDescription, chunk);
  std::size_t end = out.size() + chunk;
  put32(out, ssrc);
  out.push_back(1);
  out.push_back(uint8_t(length));
  out.insert(out.end(), cname.begin(), cname.begin() + std::ptrdiff_t(length));
  out.resize(end, 0);
}

void append_nack(std::vector<uint8_t>& out, uint32_t sender, uint32_t media,
                 const std::vector<uint16_t>& sequences) {
  std::vector<std::pair<uint16_t, uint16_t>> items;
  for (uint16_t sequence : sequences) {
    uint16_t after = items.empty() ? 0 : uint16_t(sequence - items.back().first);
    if (!items.empty() && after >= 1 && after <= 16)
      items.back().second |= uint16_t(1 << (after - 1));
    else if (items.empty() || after != 0) items.emplace_back(sequence, 0);
  }
  header(out, 1, kTransportFeedback, 8 + items.size() * 4);
  put32(out, sender);
  put32(out, media);
  for (auto [first, mask] : items) {
    put16(out, first);
    put16(out, mask);
  }
}

void append_pli(std::vector<uint8_t>& out, uint32_t sender, uint32_t media) {
  header(out, 1, kPayloadFeedback, 8);
  put32(out, sender);
  put32(out, media);
}

void append_fir(std::vector<uint8_t>& out, uint32_t sender, uint32_t media, uint8_t number) {
  header(out, 4, kPayloadFeedback, 16);
  put32(out, sender);
  put32(out, 0);
  put32(out, media);
  put32(out, uint32_t(number) << 24);
}

void TransportFeedback::arrived(uint16_t sequence, int64_t time_us) {
  // Unwrapped near the highest one seen.
  int64_t full = sequence;
  if (highest_ >= 0) full = highest_ + int16_t(uint16_t(sequence - uint16_t(highest_)));
  if (full < 0) return;
  highest_ = std::max(highest_, full);
  if (next_base_ >= 0 && full < next_base_ - 500) return;  // much too late
  if (arrivals_.size() < kMaxFeedbackPackets) arrivals_.push_back({full, time_us});
}

bool TransportFeedback::append(std::vector<uint8_t>& out, uint32_t sender, uint32_t media) {
  if (arrivals_.empty()) return false;
  std::sort(arrivals_.begin(), arrivals_.end(),
            [](const Arrival& a, const Arrival& b) { return a.sequence < b.sequence; });
  arrivals_.erase(std::unique(arrivals_.begin(), arrivals_.end(),
                              [](const Arrival& a, const Arrival& b) {
                                return a.sequence == b.sequence;
                              }),
                  arrivals_.end());
  int64_t base = next_base_ >= 0 ? std::min(next_base_, arrivals_.front().sequence)
                                 : arrivals_.front().sequence;
  if (arrivals_.back().sequence - base >= int64_t(kMaxFeedbackPackets))
    base = arrivals_.front().sequence;
  constexpr int64_t kTick = 250, kReference = 64000;  // microseconds
  int64_t earliest = arrivals_.front().time_us;
  for (const Arrival& arrival : arrivals_) earliest = std::min(earliest, arrival.time_us);
  int64_t reference = earliest / kReference;
  int64_t previous = reference * kReference;

  std::vector<uint8_t> symbols, deltas;
  std::size_t next = 0;
  int64_t last = base - 1;
  for (; next < arrivals_.size(); ++next) {
    const Arrival& arrival = arrivals_[next];
    if (arrival.sequence - base >= int64_t(kMaxFeedbackPackets)) break;
    int64_t ticks = (arrival.time_us - previous) / kTick;
    if (ticks < -32768 || ticks > 32767) break;  // the rest goes into the next message
    for (int64_t s = last + 1; s < arrival.sequence; ++s) symbols.push_back(0);
    last = arrival.sequence;
    previous += ticks * kTick;
    if (ticks >= 0 && ticks <= 255) {
      symbols.push_back(1);
      deltas.push_back(uint8_t(ticks));
    } else {
      symbols.push_back(2);
      put16(deltas, uint16_t(int16_t(ticks)));
    }
  }
  arrivals_.erase(arrivals_.begin(), arrivals_.begin() + std::ptrdiff_t(next));
  if (symbols.empty()) {  // times that no message can hold
    arrivals_.clear();
    return false;
  }
  next_base_ = last + 1;

  // Status vectors of seven two-bit symbols.
  std::vector<uint8_t> chunks;
  for (std::size_t i = 0; i < symbols.size(); i += 7) {
    uint16_t chunk = 0xc000;
    for (std::size_t j = 0; j < 7 && i + j < symbols.size(); ++j)
      chunk |= uint16_t(symbols[i + j] << (12 - 2 * j));
    put16(chunks, chunk);
  }
  std::size_t body = 8 + 8 + chunks.size() + deltas.size();
  std::size_t padded = (body + 3) / 4 * 4;
  std::size_t start = out.size();
  header(out, 15, kTransportFeedback, padded);
  if (padded != body) out[start] |= 0x20;
  put32(out, sender);
  put32(out, media);
  put16(out, uint16_t(base));
  put16(out, uint16_t(symbols.size()));
  put32(out, (uint32_t(reference) & 0xffffff) << 8 | count_++);
  out.insert(out.end(), chunks.begin(), chunks.end());
  out.insert(out.end(), deltas.begin(), deltas.end());
  while (out.size() < start + 4 + padded) out.push_back(0);
  if (padded != body) out.back() = uint8_t(padded - body);
  return true;
}

}  // namespace cfr::sfu
