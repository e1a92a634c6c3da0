// Pictures that tell which frame they are: a 16-bit counter in black and white blocks, large enough
// to survive encoding and scaling.
#pragma once

#include <gst/video/video.h>

#include <cstdint>
#include <optional>

namespace cfr::test {

// I420 and other planar formats with 8-bit luma; at least 32 x 8 pixels.
void write_counter(GstVideoFrame* frame, uint16_t counter);
// nullopt: no counter, or a damaged one.
std::optional<uint16_t> read_counter(const GstVideoFrame* frame);

// The counter of a raw picture in a buffer.
std::optional<uint16_t> counter_of(GstBuffer* buffer, const GstCaps* caps);

struct Colour {
  int y, u, v;
};
// Mean of the lower half, which the counter leaves alone. I420 only.
std::optional<Colour> colour_of(GstBuffer* buffer, const GstCaps* caps);

// From now on the raw pictures that pass the pad carry a counter: first, first + 1, ...
void burn_counter(GstPad* pad, uint16_t first = 0);

}  // namespace cfr::test
