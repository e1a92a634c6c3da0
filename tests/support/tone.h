// Measures the tone in decoded audio.
#pragma once

#include <gst/audio/audio.h>

#include <vector>

namespace cfr::test {

// Samples of the first channel, -1..1, of interleaved S16 or F32; empty for another format.
std::vector<float> samples_of(GstBuffer* buffer, const GstCaps* caps);

// The share of the signal's energy that is at `frequency_hz` (Goertzel), 0..1; 0 for silence.
double share_at(const std::vector<float>& samples, int rate, double frequency_hz);

// Hz, from zero crossings; 0 for silence or too few samples.
double frequency_of(const std::vector<float>& samples, int rate);

}  // namespace cfr::test
