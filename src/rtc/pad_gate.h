// Stands on a source pad of webrtcbin from the moment the pad appears: holds its first packet until
// the worker knows what the pad is for, keeps webrtcbin's EOS and a missing link from ending all
// other tracks of the connection, and can drop everything. Made on a streaming thread, owned by its
// probes; the other calls are for the worker.
#pragma once

#include <gst/gst.h>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

namespace cfr {

class PadGate : public std::enable_shared_from_this<PadGate> {
 public:
  // `on_packet` runs on the streaming thread with a copy of a packet's first bytes: of the first
  // one while the gate holds, of every one while it is parked and `inspect` was asked for.
  using OnPacket = std::function<void(std::vector<uint8_t> header)>;
  static std::shared_ptr<PadGate> install(GstPad* pad, OnPacket on_packet);

  // Holds the next packet (again).
  void hold(GstPad* pad);
  // Holds the next packet and shows it to on_packet, as if the pad were new.
  void start_over(GstPad* pad);
  // Lets packets through. They are dropped while the pad has no peer.
  void open(GstPad* pad);
  // Drops packets. `inspect`: 0, or how many packets may still be shown to on_packet.
  void park(GstPad* pad, int inspect);

 private:
  enum class Mode { hold, open, park };

  static GstPadProbeReturn on_blocked(GstPad* pad, GstPadProbeInfo* info, gpointer data);
  static GstPadProbeReturn on_data(GstPad* pad, GstPadProbeInfo* info, gpointer data);
  static GstPadProbeReturn on_internal_event(GstPad* pad, GstPadProbeInfo* info, gpointer data);
  void add_block(GstPad* pad);
  void remove_block(GstPad* pad);

  OnPacket on_packet_;
  std::atomic<Mode> mode_{Mode::hold};
  std::atomic<int> inspect_{0};
  std::atomic<bool> shown_{false};  // the first packet was given to on_packet_
  std::mutex mutex_;                // guards block_
  gulong block_ = 0;
};

// Answers the caps queries that webrtcbin makes through `pad` while it holds its own lock, so that
// they never run into other elements.
void answer_caps_queries(GstPad* pad);

}  // namespace cfr
