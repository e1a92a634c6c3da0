// The end of a chain that faces webrtcbin: a ghost pad whose failures stay on their side. Flow
// errors never travel back, EOS and flushes never pass, and while it is shut, packets are dropped.
// Relaxed atomics on the packet path, written by the streaming thread alone; no lock, allocation or
// log.
#pragma once

#include <gst/gst.h>

#include <atomic>
#include <functional>
#include <memory>

namespace cfr {

struct Edge {
  std::atomic<bool> open{false};
  // Of a source pad: set while it is unlinked, before it is linked anew.
  std::atomic<bool> relinked{false};
  std::atomic<bool> fresh{false};   // opened, and no packet has passed since
  std::atomic<bool> asking{false};  // call on_packet
  std::atomic<uint64_t> passed{0};  // packets
  std::atomic<uint64_t> seen{0};    // packets, the dropped ones too

  // All on the streaming thread; set before data flows.
  std::function<GstBuffer*(GstBuffer*)> rewrite;  // transfer full both ways; nullptr = drop it
  std::function<void()> on_packet;                // while `asking`
  std::function<void()> on_first_packet;
  std::function<void()> on_eos;
  std::function<void(GstEvent*)> on_event;     // sees every other serialised event
  std::function<void(GstFlowReturn)> on_flow;  // when what the other side returns has changed
  GstFlowReturn last_flow = GST_FLOW_OK;
};

// Takes over data where it enters the ghost pad: the inner pad of a source pad, a sink pad itself.
void install_edge(GstPad* ghost, std::shared_ptr<Edge> edge);

}  // namespace cfr
