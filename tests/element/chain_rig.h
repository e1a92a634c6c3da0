// A pipeline with the chains in it and, in webrtcbin's place, an element of ours: pads that can
// fail, block, lose packets and be replaced.
#pragma once

#include <gst/gst.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "media/receive_chain.h"
#include "media/send_chain.h"

namespace cfr::test {

// Notified by whatever happens; waits for a condition with a deadline.
class Signal {
 public:
  void happened();
  // False: the deadline has passed.
  bool wait(const std::function<bool()>& condition,
            std::chrono::milliseconds deadline = std::chrono::seconds(10));

 private:
  std::mutex mutex_;
  std::condition_variable condition_;
};

// What stands for webrtcbin in one direction or both: an identity between its pads.
class FakePeer {
 public:
  FakePeer(GstElement* pipeline, Signal& signal);
  ~FakePeer();
  GstPad* sink() const { return sink_.get(); }
  GstPad* src() const { return src_.get(); }

  std::atomic<GstFlowReturn> answer{GST_FLOW_OK};  // others: what the sink pad returns
  std::atomic<int> key_frame_requests{0};          // that came up to the src pad
  std::atomic<int> seeks{0};
  std::atomic<int> eos{0};
  std::atomic<uint64_t> packets{0};
  std::atomic<int> lose{0};                      // so many of the next packets
  std::atomic<bool> deaf{false};  // to requests for key frames, from now on
  std::function<bool(GstBuffer*)> loses;         // before data flows: those it says
  std::function<GstBuffer*(GstBuffer*)> change;  // before data flows; may return another
  // Copies of the first packets.
  std::vector<std::vector<uint8_t>> first_packets();
  void request_key_frame();

 private:
  GstPadProbeReturn on_input(GstPadProbeInfo* info);
  GstElement* const pipeline_;
  Signal& signal_;
  gref<GstElement> element_;
  gref<GstPad> sink_, src_;
  std::mutex mutex_;
  std::vector<std::vector<uint8_t>> first_;
};

// What arrived at the end.
struct Frame {
  GstClockTime time = GST_CLOCK_TIME_NONE;  // running time
  std::optional<uint16_t> counter;          // of raw video
  int width = 0, height = 0;
  gint64 at_us = 0;  // monotonic
};

class Rig {
 public:
  // `source`: a launch line; the pictures of an element named `burn` in it get a counter.
  Rig(MediaKind kind, const std::string& source,
      std::shared_ptr<Timeline> timeline = std::make_shared<Timeline>());
  ~Rig();

  // Adds the receiving half for a codec: peer -> ReceiveChain -> `sink` (a launch line).
  void receive(const Codec& codec, const std::string& sink = "fakesink sync=false async=false");
  // What the element does when the caps are known: links sender, peer and receiver.
  void play();
  bool wait_for_caps();
  void connect();       // sender and receiver (if any) to the peer
  void replace_peer();  // disconnects and connects to a new one
  bool wait_for_frames(std::size_t count);
  bool wait(const std::function<bool()>& condition) { return signal.wait(condition); }

  std::vector<Frame> frames();
  std::vector<float> samples();  // mono or left, of raw audio
  int rate() const { return rate_; }
  int burnt() const { return burnt_; }  // pictures that have got a counter
  std::string output_caps();
  std::vector<gref<GstCaps>> caps();  // given by on_caps
  std::vector<Error> errors();        // of the chains
  std::vector<std::string> bus_errors();
  GstElement* element(const char* name);  // transfer full
  std::string sent(const char* field);    // of the last caps

  Signal signal;
  gref<GstElement> pipeline;
  std::unique_ptr<SendChain> sender;
  std::unique_ptr<ReceiveChain> receiver;
  std::unique_ptr<FakePeer> peer;
  std::string stream_id;
  std::atomic<int> first_packets{0}, sender_eos{0}, output_eos{0};
  gref<GstPad> output;  // the last sink pad

 private:
  void on_output(GstPadProbeInfo* info);
  GstElement* sink_bin_ = nullptr;
  std::mutex mutex_;
  std::vector<Frame> frames_;
  std::vector<float> samples_;
  std::atomic<int> rate_{0}, burnt_{0};
  std::vector<gref<GstCaps>> caps_;
  std::vector<Error> errors_;
  std::vector<std::string> bus_errors_;
};

}  // namespace cfr::test
