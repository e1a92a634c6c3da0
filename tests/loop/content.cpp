#include "loop/content.h"

#include <gst/video/video.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

namespace cfr::test {

namespace {

// 16 bits, most significant first, then the same bits inverted: a row of blocks each, black or
// white, at the top of the picture. Large blocks survive any encoder and any scaling by two.
constexpr int kBits = 16;
constexpr int kRows = 2;

struct Counter {
  unsigned next;
};

gref<GstPad> pad_of(Pipeline& pipeline, const char* element, const char* pad) {
  auto found = pipeline.element(element);
  if (!found) {
    ADD_FAILURE() << "no element " << element;
    return {};
  }
  return gref<GstPad>::adopt(gst_element_get_static_pad(found.get(), pad));
}

bool luma_plane(GstPad* pad, GstVideoInfo* info) {
  GstCaps* caps = gst_pad_get_current_caps(pad);
  bool good = caps && gst_video_info_from_caps(info, caps);
  if (caps) gst_caps_unref(caps);
  return good && GST_VIDEO_INFO_FORMAT(info) == GST_VIDEO_FORMAT_I420;
}

GstPadProbeReturn burn(GstPad* pad, GstPadProbeInfo* probe, gpointer data) {
  auto* counter = static_cast<Counter*>(data);
  GstVideoInfo info;
  if (!luma_plane(pad, &info)) return GST_PAD_PROBE_OK;
  GstBuffer* buffer = gst_buffer_make_writable(GST_PAD_PROBE_INFO_BUFFER(probe));
  GST_PAD_PROBE_INFO_DATA(probe) = buffer;
  GstVideoFrame frame;
  if (!gst_video_frame_map(&frame, &info, buffer, GST_MAP_READWRITE)) return GST_PAD_PROBE_OK;
  auto* luma = static_cast<guint8*>(GST_VIDEO_FRAME_PLANE_DATA(&frame, 0));
  int stride = GST_VIDEO_FRAME_PLANE_STRIDE(&frame, 0);
  int block = GST_VIDEO_INFO_WIDTH(&info) / kBits;
  for (int row = 0; row < kRows * block; ++row)
    for (int bit = 0; bit < kBits; ++bit) {
      bool one = (counter->next >> (kBits - 1 - bit)) & 1;
      if (row / block == 1) one = !one;
      std::memset(luma + row * stride + bit * block, one ? 235 : 16, std::size_t(block));
    }
  // Neutral colour under the blocks.
  for (int plane = 1; plane <= 2; ++plane) {
    auto* chroma = static_cast<guint8*>(GST_VIDEO_FRAME_PLANE_DATA(&frame, plane));
    int chroma_stride = GST_VIDEO_FRAME_PLANE_STRIDE(&frame, plane);
    for (int row = 0; row < kRows * block / 2; ++row)
      std::memset(chroma + row * chroma_stride, 128, std::size_t(block * kBits / 2));
  }
  gst_video_frame_unmap(&frame);
  counter->next = (counter->next + 1) & 0xffff;
  return GST_PAD_PROBE_OK;
}

// -1 if the two rows do not agree.
int read_counter(const GstVideoFrame& frame, const GstVideoInfo& info) {
  auto* luma = static_cast<const guint8*>(GST_VIDEO_FRAME_PLANE_DATA(&frame, 0));
  int stride = GST_VIDEO_FRAME_PLANE_STRIDE(&frame, 0);
  int block = GST_VIDEO_INFO_WIDTH(&info) / kBits;
  unsigned rows[kRows] = {0, 0};
  for (int row = 0; row < kRows; ++row)
    for (int bit = 0; bit < kBits; ++bit) {
      int sum = 0, samples = 0;
      for (int y = row * block + block / 4; y < row * block + block * 3 / 4; ++y)
        for (int x = bit * block + block / 4; x < bit * block + block * 3 / 4; ++x, ++samples)
          sum += luma[y * stride + x];
      rows[row] = rows[row] << 1 | (samples && sum / samples > 125 ? 1u : 0u);
    }
  return rows[0] == (~rows[1] & 0xffff) ? int(rows[0]) : -1;
}

}  // namespace

void burn_counter(Pipeline& pipeline, const char* element, unsigned first) {
  auto pad = pad_of(pipeline, element, "src");
  if (!pad) return;
  gst_pad_add_probe(pad.get(), GST_PAD_PROBE_TYPE_BUFFER, burn, new Counter{first},
                    [](gpointer data) { delete static_cast<Counter*>(data); });
}

struct PadProbe::Link {
  std::mutex mutex;
  GstPadProbeCallback look;
  gpointer owner;  // null once it has gone
};

PadProbe::PadProbe(Pipeline& pipeline, const char* element, GstPadProbeType type,
                   GstPadProbeCallback look, gpointer owner)
    : pad_(pad_of(pipeline, element, "sink")), link_(new Link{{}, look, owner}) {
  if (!pad_) return;
  using Shared = std::shared_ptr<Link>;
  id_ = gst_pad_add_probe(
      pad_.get(), type,
      [](GstPad* pad, GstPadProbeInfo* info, gpointer data) {
        Shared link = *static_cast<Shared*>(data);
        std::lock_guard lock(link->mutex);
        return link->owner ? link->look(pad, info, link->owner) : GST_PAD_PROBE_OK;
      },
      new Shared(link_), [](gpointer data) { delete static_cast<Shared*>(data); });
}

PadProbe::~PadProbe() {
  {
    std::lock_guard lock(link_->mutex);
    link_->owner = nullptr;
  }
  if (id_) gst_pad_remove_probe(pad_.get(), id_);
}

GstPadProbeReturn on_frame(GstPad* pad, GstPadProbeInfo* probe, gpointer data) {
  auto* self = static_cast<Frames*>(data);
  if (probe->type & GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM) {
    GstEvent* event = GST_PAD_PROBE_INFO_EVENT(probe);
    if (GST_EVENT_TYPE(event) == GST_EVENT_EOS) ++self->eos_;
    if (GST_EVENT_TYPE(event) != GST_EVENT_GAP) return GST_PAD_PROBE_OK;
    GstClockTime start, duration;
    gst_event_parse_gap(event, &start, &duration);
    if (GST_CLOCK_TIME_IS_VALID(self->last_pts_) && start < self->last_pts_)
      self->went_back("gap", start);
    self->last_pts_ = start + duration;
    ++self->gaps_;
    return GST_PAD_PROBE_OK;
  }
  GstVideoInfo info;
  if (!luma_plane(pad, &info)) return GST_PAD_PROBE_OK;
  self->width_ = GST_VIDEO_INFO_WIDTH(&info);
  self->height_ = GST_VIDEO_INFO_HEIGHT(&info);
  GstBuffer* buffer = GST_PAD_PROBE_INFO_BUFFER(probe);
  GstVideoFrame frame;
  if (!gst_video_frame_map(&frame, &info, buffer, GST_MAP_READ)) return GST_PAD_PROBE_OK;
  int counter = read_counter(frame, info);
  gst_video_frame_unmap(&frame);
  if (counter < 0) {
    ++self->unreadable_;
    return GST_PAD_PROBE_OK;
  }
  GstClockTime pts = GST_BUFFER_PTS(buffer);
  if (self->count_ == 0) self->first_at_ = g_get_monotonic_time();
  if (self->count_ > 0) {
    // The counter wraps at 65536.
    unsigned step = (unsigned(counter) - self->last_) & 0xffff;
    if (step >= 0x8000)
      self->went_back("counter", GstClockTime(counter));
    else if (step > 1)
      self->left_out(step - 1, unsigned(counter));
    if (GST_CLOCK_TIME_IS_VALID(self->last_pts_) && pts < self->last_pts_)
      self->went_back("picture", pts);
  }
  self->last_pts_ = pts;
  self->last_ = unsigned(counter);
  ++self->count_;
  return GST_PAD_PROBE_OK;
}

void Frames::left_out(unsigned frames, unsigned before) {
  constexpr unsigned kPrinted = 20;
  missing_ += frames;
  if (holes_++ < kPrinted)
    printf("%u pictures are missing before picture %u, %.3f s after the first\n", frames, before,
           double(g_get_monotonic_time() - first_at_) / G_USEC_PER_SEC);
}

void Frames::went_back(const char* what, GstClockTime to) {
  ++backwards_;
  printf("after picture %u (%" GST_TIME_FORMAT ") a %s of %" G_GUINT64_FORMAT "\n", unsigned(last_),
         GST_TIME_ARGS(last_pts_), what, to);
}

Frames::Frames(Pipeline& pipeline, const char* element)
    : probe_(pipeline, element,
             GstPadProbeType(GST_PAD_PROBE_TYPE_BUFFER | GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM),
             on_frame, this) {}

GstPadProbeReturn on_samples(GstPad* pad, GstPadProbeInfo* probe, gpointer data) {
  auto* self = static_cast<Tone*>(data);
  if (probe->type & GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM) {
    if (GST_EVENT_TYPE(GST_PAD_PROBE_INFO_EVENT(probe)) == GST_EVENT_EOS) ++self->eos_;
    return GST_PAD_PROBE_OK;
  }
  GstCaps* caps = gst_pad_get_current_caps(pad);
  if (!caps) return GST_PAD_PROBE_OK;
  const GstStructure* structure = gst_caps_get_structure(caps, 0);
  int rate = 0, channels = 1;
  gst_structure_get_int(structure, "rate", &rate);
  gst_structure_get_int(structure, "channels", &channels);
  bool s16 = g_strcmp0(gst_structure_get_string(structure, "format"), "S16LE") == 0;
  gst_caps_unref(caps);
  GstMapInfo map;
  GstBuffer* buffer = GST_PAD_PROBE_INFO_BUFFER(probe);
  if (!s16 || channels != 1 || !gst_buffer_map(buffer, &map, GST_MAP_READ)) return GST_PAD_PROBE_OK;
  {
    std::lock_guard lock(self->mutex_);
    self->rate_ = rate;
    auto* samples = reinterpret_cast<const gint16*>(map.data);
    for (gsize i = 0; i < map.size / 2; ++i) self->samples_.push_back(float(samples[i]) / 32768);
    std::size_t keep = std::size_t(rate) / 2;
    if (self->samples_.size() > keep)
      self->samples_.erase(self->samples_.begin(), self->samples_.end() - std::ptrdiff_t(keep));
  }
  gst_buffer_unmap(buffer, &map);
  return GST_PAD_PROBE_OK;
}

Tone::Tone(Pipeline& pipeline, const char* element)
    : probe_(pipeline, element,
             GstPadProbeType(GST_PAD_PROBE_TYPE_BUFFER | GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM),
             on_samples, this) {}

double Tone::frequency() const {
  std::lock_guard lock(mutex_);
  if (rate_ == 0 || samples_.size() < std::size_t(rate_) / 2) return 0;
  // Rising zero crossings, from the first to the last, of what is loud enough to be the tone.
  float loudest = 0;
  for (float sample : samples_) loudest = std::max(loudest, std::abs(sample));
  if (loudest < 0.05f) return 0;
  long first = -1, last = -1, crossings = 0;
  for (std::size_t i = 1; i < samples_.size(); ++i)
    if (samples_[i - 1] < 0 && samples_[i] >= 0) {
      if (first < 0)
        first = long(i);
      else
        ++crossings;
      last = long(i);
    }
  return last > first ? double(crossings) * rate_ / double(last - first) : 0;
}

GstPadProbeReturn on_buffer(GstPad*, GstPadProbeInfo* probe, gpointer data) {
  auto* self = static_cast<Buffers*>(data);
  if (probe->type & GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM) {
    if (GST_EVENT_TYPE(GST_PAD_PROBE_INFO_EVENT(probe)) == GST_EVENT_EOS) ++self->eos_;
  } else if (probe->type & GST_PAD_PROBE_TYPE_BUFFER_LIST) {
    self->count_ += gst_buffer_list_length(GST_PAD_PROBE_INFO_BUFFER_LIST(probe));
  } else {
    ++self->count_;
  }
  return GST_PAD_PROBE_OK;
}

Buffers::Buffers(Pipeline& pipeline, const char* element)
    : probe_(pipeline, element,
             GstPadProbeType(GST_PAD_PROBE_TYPE_BUFFER | GST_PAD_PROBE_TYPE_BUFFER_LIST |
                             GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM),
             on_buffer, this) {}

std::string Buffers::caps() const {
  GstCaps* caps = probe_.pad() ? gst_pad_get_current_caps(probe_.pad()) : nullptr;
  if (!caps) return "";
  g_autofree char* text = gst_caps_to_string(caps);
  gst_caps_unref(caps);
  return text;
}

}  // namespace cfr::test
