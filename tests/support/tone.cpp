#include "support/tone.h"

#include <cmath>

namespace cfr::test {

namespace {
constexpr float kSilence = 0.02f;
}

std::vector<float> samples_of(GstBuffer* buffer, const GstCaps* caps) {
  std::vector<float> samples;
  GstAudioInfo info;
  GstMapInfo map;
  if (!caps || !gst_audio_info_from_caps(&info, caps) ||
      !gst_buffer_map(buffer, &map, GST_MAP_READ))
    return samples;
  const auto channels = std::size_t(GST_AUDIO_INFO_CHANNELS(&info));
  if (GST_AUDIO_INFO_FORMAT(&info) == GST_AUDIO_FORMAT_S16) {
    const auto* data = reinterpret_cast<const gint16*>(map.data);
    for (std::size_t i = 0; i + channels <= map.size / 2; i += channels)
      samples.push_back(float(data[i]) / 32768.0f);
  } else if (GST_AUDIO_INFO_FORMAT(&info) == GST_AUDIO_FORMAT_F32) {
    const auto* data = reinterpret_cast<const float*>(map.data);
    for (std::size_t i = 0; i + channels <= map.size / 4; i += channels) samples.push_back(data[i]);
  }
  gst_buffer_unmap(buffer, &map);
  return samples;
}

double share_at(const std::vector<float>& samples, int rate, double frequency_hz) {
  const double k = 2 * std::cos(2 * M_PI * frequency_hz / rate);
  double s1 = 0, s2 = 0, energy = 0;
  for (float sample : samples) {
    const double s0 = sample + k * s1 - s2;
    s2 = s1;
    s1 = s0;
    energy += double(sample) * sample;
  }
  if (energy < kSilence * kSilence * double(samples.size())) return 0;
  return 2 * (s1 * s1 + s2 * s2 - k * s1 * s2) / (double(samples.size()) * energy);
}

double frequency_of(const std::vector<float>& samples, int rate) {
  long first = -1, last = -1, periods = 0;
  float loudest = 0;
  for (std::size_t i = 1; i < samples.size(); ++i) {
    loudest = std::max(loudest, std::abs(samples[i]));
    if (samples[i - 1] >= 0 || samples[i] < 0) continue;
    if (first < 0)
      first = long(i);
    else
      ++periods;
    last = long(i);
  }
  return loudest < kSilence || periods < 2 ? 0 : double(periods) * rate / double(last - first);
}

}  // namespace cfr::test
