// The last second of one RTP stream, by sequence number. Bounded in number and time; the buffers
// are used again, so a steady stream allocates nothing. Pure.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "sfu/packet.h"

namespace cfr::sfu {

class PacketCache {
 public:
  // `slots`: a power of two.
  PacketCache(std::size_t slots, int64_t keep_us) : slots_(slots), keep_us_(keep_us) {}

  void put(const RtpPacket& packet, int64_t now_us) {
    while (!order_.empty() && now_us - at(order_.front()).time_us > keep_us_) drop_oldest();
    Slot& slot = at(packet.sequence);
    if (slot.used) release(slot);
    if (!spare_.empty()) {
      slot.bytes = std::move(spare_.back());
      spare_.pop_back();
    }
    slot.bytes.assign(packet.extension.begin(), packet.extension.end());
    slot.bytes.insert(slot.bytes.end(), packet.payload.begin(), packet.payload.end());
    slot.header = packet;
    slot.extension_size = packet.extension.size();
    slot.time_us = now_us;
    slot.used = true;
    order_.push_back(packet.sequence);
    if (order_.size() > slots_.size()) order_.pop_front();
  }

  // Null if it is not there any more. Valid until the next call of put().
  const RtpPacket* get(uint16_t sequence, int64_t now_us) {
    Slot& slot = at(sequence);
    if (!slot.used || slot.header.sequence != sequence || now_us - slot.time_us > keep_us_)
      return nullptr;
    slot.header.extension = Bytes(slot.bytes).first(slot.extension_size);
    slot.header.payload = Bytes(slot.bytes).subspan(slot.extension_size);
    return &slot.header;
  }

 private:
  struct Slot {
    bool used = false;
    RtpPacket header;
    std::size_t extension_size = 0;
    int64_t time_us = 0;
    std::vector<uint8_t> bytes;
  };
  Slot& at(uint16_t sequence) { return slots_[sequence & (slots_.size() - 1)]; }
  void release(Slot& slot) {
    spare_.push_back(std::move(slot.bytes));
    slot.bytes.clear();
    slot.used = false;
  }
  void drop_oldest() {
    Slot& slot = at(order_.front());
    if (slot.used && slot.header.sequence == order_.front()) release(slot);
    order_.pop_front();
  }

  std::vector<Slot> slots_;
  const int64_t keep_us_;
  std::deque<uint16_t> order_;
  std::vector<std::vector<uint8_t>> spare_;
};

}  // namespace cfr::sfu
