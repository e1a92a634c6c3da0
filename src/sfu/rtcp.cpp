#include "sfu/rtcp.h"

#include <algorithm>

namespace cfr::sfu {

namespace {

constexpr int kSenderReport = 200, kReceiverReport = 201, kDescription = 202, kBye = 203,
              kTransportFeedback = 205, kPayloadFeedback = 206;
constexpr int kNack = 1, kTwcc = 15, kPli = 1, kFir = 4;
// Bounds of one message: it has to fit into a packet whatever the times are.
constexpr std::size_t kMaxSymbols = 400;
constexpr std::size_t kMaxNacks = 1024;
constexpr std::size_t kMaxStatuses = 8192;              // in one compound
constexpr int64_t kTickUs = 250, kReferenceUs = 64000;  // of transport-cc
constexpr int64_t kNtpEpochS = 2208988800;              // 1900 to 1970

void put16(std::vector<uint8_t>& out, uint16_t v) {
  out.push_back(uint8_t(v >> 8));
  out.push_back(uint8_t(v));
}

void put32(std::vector<uint8_t>& out, uint32_t v) {
  put16(out, uint16_t(v >> 16));
  put16(out, uint16_t(v));
}

void header(std::vector<uint8_t>& out, int count, int type, std::size_t bytes_after_header) {
  out.push_back(uint8_t(0x80 | count));
  out.push_back(uint8_t(type));
  put16(out, uint16_t(bytes_after_header / 4));
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

RtcpContent::Nack read_nack(Bytes packet) {
  RtcpContent::Nack nack{read32(&packet[8]), {}};
  for (std::size_t at = 12; at + 4 <= packet.size() && nack.sequences.size() < kMaxNacks; at += 4) {
    uint16_t first = read16(&packet[at]), mask = read16(&packet[at + 2]);
    nack.sequences.push_back(first);
    for (int bit = 0; bit < 16; ++bit)
      if (mask >> bit & 1) nack.sequences.push_back(uint16_t(first + bit + 1));
  }
  return nack;
}

// `packet` is one whole RTCP packet. No more than `room` statuses are read.
RtcpContent::TransportFeedback read_transport_feedback(Bytes packet, std::size_t room) {
  RtcpContent::TransportFeedback feedback;
  if (packet.size() < 20) return feedback;
  uint16_t base = read16(&packet[12]);
  std::size_t count = std::min<std::size_t>(read16(&packet[14]), room);
  int64_t time = int64_t(read24(&packet[16])) * kReferenceUs;
  feedback.count = packet[19];
  std::vector<uint8_t> symbols;
  std::size_t at = 20;
  while (symbols.size() < count && at + 2 <= packet.size()) {
    uint16_t chunk = read16(&packet[at]);
    at += 2;
    if (!(chunk & 0x8000)) {
      std::size_t run = std::min<std::size_t>(chunk & 0x1fff, count - symbols.size());
      symbols.insert(symbols.end(), run, uint8_t(chunk >> 13 & 3));
    } else if (chunk & 0x4000) {
      for (int shift = 12; shift >= 0 && symbols.size() < count; shift -= 2)
        symbols.push_back(uint8_t(chunk >> shift & 3));
    } else {
      for (int shift = 13; shift >= 0 && symbols.size() < count; --shift)
        symbols.push_back(uint8_t(chunk >> shift & 1));
    }
  }
  for (std::size_t i = 0; i < symbols.size(); ++i) {
    bool received = symbols[i] == 1 || symbols[i] == 2;
    if (received) {
      if (at + symbols[i] > packet.size()) break;
      int64_t ticks = symbols[i] == 1 ? packet[at] : int16_t(read16(&packet[at]));
      at += symbols[i];
      time += ticks * kTickUs;
    }
    feedback.arrivals.push_back({uint16_t(base + i), received, received ? time : 0});
  }
  return feedback;
}

}  // namespace

RtcpContent RtcpContent::parse(Bytes data) {
  RtcpContent content;
  std::size_t room = kMaxStatuses;
  while (data.size() >= 4 && data[0] >> 6 == 2) {
    std::size_t length = (std::size_t(read16(&data[2])) + 1) * 4;
    if (length > data.size()) break;
    Bytes packet = data.first(length);
    data = data.subspan(length);
    int count = packet[0] & 0x1f;
    int type = packet[1];
    std::size_t at = 8;
    if (packet.size() < 8) continue;
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
        for (at = 4; count > 0 && at + 4 <= packet.size(); at += 4, --count)
          content.byes.push_back(read32(&packet[at]));
        break;
      case kTransportFeedback:
        if (packet.size() < 12) break;
        if (count == kTwcc) {
          content.transport_feedback.push_back(read_transport_feedback(packet, room));
          room -= content.transport_feedback.back().arrivals.size();
        }
        if (count == kNack) content.nacks.push_back(read_nack(packet));
        break;
      case kPayloadFeedback:
        if (packet.size() < 12) break;
        if (count == kPli) content.key_frame_requests.push_back(read32(&packet[8]));
        if (count == kFir)  // the SSRCs stand in the entries (RFC 5104, 4.3.1)
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
  do {
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
  std::size_t start = out.size();
  header(out, kNack, kTransportFeedback, 8);
  put32(out, sender);
  put32(out, media);
  for (std::size_t i = 0; i < sequences.size();) {
    uint16_t first = sequences[i++], mask = 0;
    for (; i < sequences.size(); ++i) {
      uint16_t after = uint16_t(sequences[i] - first);
      if (after > 16) break;
      if (after > 0) mask |= uint16_t(1 << (after - 1));
    }
    put16(out, first);
    put16(out, mask);
  }
  write16(&out[start + 2], uint16_t((out.size() - start) / 4 - 1));
}

void append_pli(std::vector<uint8_t>& out, uint32_t sender, uint32_t media) {
  header(out, kPli, kPayloadFeedback, 8);
  put32(out, sender);
  put32(out, media);
}

void append_fir(std::vector<uint8_t>& out, uint32_t sender, uint32_t media, uint8_t number) {
  header(out, kFir, kPayloadFeedback, 16);
  put32(out, sender);
  put32(out, 0);
  put32(out, media);
  put32(out, uint32_t(number) << 24);
}

uint64_t ntp_from_unix_us(int64_t unix_us) {
  uint64_t seconds = uint64_t(unix_us / 1000000 + kNtpEpochS);
  uint64_t fraction = (uint64_t(unix_us % 1000000) << 32) / 1000000;
  return seconds << 32 | fraction;
}

int64_t unix_us_from_ntp(uint64_t ntp) {
  int64_t seconds = int64_t(ntp >> 32) - kNtpEpochS;
  return seconds * 1000000 + int64_t(((ntp & 0xffffffff) * 1000000 + (1u << 31)) >> 32);
}

// --- transport-cc ----------------------------------------------------------------------------

const TransportFeedback::Slot* TransportFeedback::find(int64_t sequence) const {
  const Slot& slot = slots_[std::size_t(sequence % kWindow)];
  return slot.sequence == sequence ? &slot : nullptr;
}

void TransportFeedback::arrived(uint16_t sequence, int64_t time_us) {
  if (slots_.empty()) {
    slots_.resize(kWindow);
    highest_ = next_ = 0x10000 + sequence;  // so that earlier ones are not negative
  }
  int64_t full = highest_ + int16_t(uint16_t(sequence - uint16_t(highest_)));
  if (full < 0 || full <= highest_ - kWindow / 2 || (full <= highest_ && find(full))) return;
  highest_ = std::max(highest_, full);
  slots_[std::size_t(full % kWindow)] = {full, time_us};
  next_ = std::max(std::min(next_, full), highest_ - kWindow / 2);
}

bool TransportFeedback::append(std::vector<uint8_t>& out, uint32_t sender, uint32_t media) {
  if (slots_.empty() || next_ > highest_) return false;
  symbols_.clear();
  deltas_.clear();
  chunks_.clear();
  int64_t base = next_, reference = -1, previous = 0;
  std::size_t used = 0;  // symbols up to the last arrival
  for (int64_t s = base; s <= highest_ && symbols_.size() < kMaxSymbols; ++s) {
    const Slot* slot = find(s);
    if (!slot) {
      symbols_.push_back(0);
      continue;
    }
    if (reference < 0) {
      reference = slot->time_us / kReferenceUs;
      previous = reference * kReferenceUs;
    }
    int64_t difference = slot->time_us - previous;
    int64_t ticks = (difference + (difference < 0 ? -kTickUs / 2 : kTickUs / 2)) / kTickUs;
    if (ticks < -32768 || ticks > 32767) break;  // the rest goes into the next message
    previous += ticks * kTickUs;
    if (ticks >= 0 && ticks <= 255) {
      symbols_.push_back(1);
      deltas_.push_back(uint8_t(ticks));
    } else {
      symbols_.push_back(2);
      put16(deltas_, uint16_t(int16_t(ticks)));
    }
    used = symbols_.size();
  }
  if (used == 0) {  // a gap longer than a message: those are lost, and nothing can be said of them
    next_ = base + int64_t(symbols_.size());
    return append(out, sender, media);
  }
  symbols_.resize(used);
  next_ = base + int64_t(used);

  for (std::size_t i = 0; i < used;) {
    std::size_t run = 1;
    while (i + run < used && symbols_[i + run] == symbols_[i]) ++run;
    if (run >= 14 || i + run == used) {
      put16(chunks_, uint16_t(symbols_[i] << 13 | run));
      i += run;
      continue;
    }
    std::size_t fourteen = std::min<std::size_t>(14, used - i);
    bool small =
        std::all_of(&symbols_[i], &symbols_[i] + fourteen, [](uint8_t s) { return s < 2; });
    std::size_t n = small ? fourteen : std::min<std::size_t>(7, used - i);
    uint16_t chunk = small ? 0x8000 : 0xc000;
    for (std::size_t j = 0; j < n; ++j)
      chunk |= uint16_t(symbols_[i + j] << (small ? 13 - j : 12 - 2 * j));
    put16(chunks_, chunk);
    i += n;
  }

  std::size_t body = 8 + 8 + chunks_.size() + deltas_.size();
  std::size_t padded = (body + 3) / 4 * 4;
  std::size_t start = out.size();
  header(out, kTwcc, kTransportFeedback, padded);
  if (padded != body) out[start] |= 0x20;
  put32(out, sender);
  put32(out, media);
  put16(out, uint16_t(base));
  put16(out, uint16_t(used));
  put32(out, (uint32_t(reference) & 0xffffff) << 8 | count_++);
  out.insert(out.end(), chunks_.begin(), chunks_.end());
  out.insert(out.end(), deltas_.begin(), deltas_.end());
  out.resize(start + 4 + padded, 0);
  if (padded != body) out.back() = uint8_t(padded - body);
  return true;
}

}  // namespace cfr::sfu
