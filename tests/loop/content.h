// Looks at what was decoded: the frame counter that a probe burnt into the picture at the source,
// and the frequency of a tone.
#pragma once

#include <gst/gst.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "loop/harness.h"

namespace cfr::test {

// From now on the raw frames (I420) that leave `element` carry a counter that rises by one.
void burn_counter(Pipeline& pipeline, const char* element, unsigned first = 0);

// A probe on an element's sink pad, for an owner whose last member it is. It goes with its owner,
// even while the pad waits with a buffer, as a sink does before the pipeline plays.
class PadProbe {
 public:
  PadProbe(Pipeline& pipeline, const char* element, GstPadProbeType type, GstPadProbeCallback look,
           gpointer owner);
  ~PadProbe();
  GstPad* pad() const { return pad_.get(); }

 private:
  struct Link;
  gref<GstPad> pad_;
  std::shared_ptr<Link> link_;
  gulong id_ = 0;
};

// Reads the counters of the frames that arrive at an element's sink pad.
class Frames {
 public:
  Frames(Pipeline& pipeline, const char* element);
  unsigned count() const { return count_; }  // frames with a readable counter
  unsigned unreadable() const { return unreadable_; }
  unsigned last() const { return last_; }
  unsigned backwards() const { return backwards_; }  // counters or timestamps that went back
  unsigned missing() const { return missing_; }      // counters that were left out
  unsigned gaps() const { return gaps_; }            // GAP events
  int width() const { return width_; }
  int height() const { return height_; }
  unsigned eos() const { return eos_; }

 private:
  friend GstPadProbeReturn on_frame(GstPad*, GstPadProbeInfo*, gpointer);
  void left_out(unsigned frames, unsigned before);
  void went_back(const char* what, GstClockTime to);
  unsigned holes_ = 0;
  gint64 first_at_ = 0;
  std::atomic<unsigned> count_{0}, unreadable_{0}, last_{0}, backwards_{0}, eos_{0}, missing_{0},
      gaps_{0};
  std::atomic<int> width_{0}, height_{0};
  GstClockTime last_pts_ = GST_CLOCK_TIME_NONE;  // of a frame, or the end of a gap
  PadProbe probe_;
};

// Measures the tone that arrives at an element's sink pad: raw audio, S16LE or F32LE.
class Tone {
 public:
  Tone(Pipeline& pipeline, const char* element);
  // Of the last half second; 0 while there is not enough.
  double frequency() const;
  unsigned eos() const { return eos_; }

 private:
  friend GstPadProbeReturn on_samples(GstPad*, GstPadProbeInfo*, gpointer);
  mutable std::mutex mutex_;
  std::vector<float> samples_;
  std::atomic<int> rate_{0};
  std::atomic<unsigned> eos_{0};
  PadProbe probe_;
};

// Counts buffers and remembers the caps at an element's sink pad.
class Buffers {
 public:
  Buffers(Pipeline& pipeline, const char* element);
  unsigned count() const { return count_; }
  unsigned eos() const { return eos_; }
  std::string caps() const;

 private:
  friend GstPadProbeReturn on_buffer(GstPad*, GstPadProbeInfo*, gpointer);
  std::atomic<unsigned> count_{0}, eos_{0};
  PadProbe probe_;
};

}  // namespace cfr::test
