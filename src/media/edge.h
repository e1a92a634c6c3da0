// The end of a chain that faces webrtcbin: a ghost pad whose failures stay on their side. Flow
// errors never travel back, EOS never passes, and while it is shut, packets are dropped. One atomic
// on the packet path; no lock, allocation or log.
#pragma once

#include <gst/gst.h>

#include <atomic>
#include <functional>
#include <memory>

namespace cfr {

struct Edge {
  std::atomic<bool> open{false};
  std::atomic<bool> fresh{false};       // opened, and no packet has passed since
  std::atomic<uint64_t> passed{0};      // packets
  std::atomic<uint64_t> seen{0};        // packets, the dropped ones too
  std::function<void()> on_first_packet;
  std::function<void()> on_eos;
  std::function<void(GstEvent*)> on_event;  // sees every other serialised event
};

// Takes over data where it enters the ghost pad: the inner pad of a source pad, a sink pad itself.
void install_edge(GstPad* ghost, std::shared_ptr<Edge> edge);

}  // namespace cfr
