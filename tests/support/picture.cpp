#include "support/picture.h"

#include <algorithm>
#include <cstring>

namespace cfr::test {

namespace {

// A row of blocks, most significant bit first, and below it the same bits inverted.
constexpr int kBits = 16;
constexpr int kRows = 2;
constexpr int kBlack = 16, kWhite = 235, kNeutral = 128;

int block_width(const GstVideoFrame* frame) {
  return GST_VIDEO_FRAME_WIDTH(frame) / kBits;
}
int block_height(const GstVideoFrame* frame) {
  return std::min(GST_VIDEO_FRAME_HEIGHT(frame) / 4, block_width(frame));
}

bool map(GstVideoFrame* frame, GstVideoInfo* info, GstBuffer* buffer, const GstCaps* caps,
         GstMapFlags flags) {
  return caps && gst_video_info_from_caps(info, caps) &&
         gst_video_frame_map(frame, info, buffer, flags);
}

}  // namespace

void write_counter(GstVideoFrame* frame, uint16_t counter) {
  const int width = block_width(frame), height = block_height(frame);
  for (int component = 0; component < 3; ++component) {
    auto* data = static_cast<guint8*>(GST_VIDEO_FRAME_COMP_DATA(frame, component));
    const int stride = GST_VIDEO_FRAME_COMP_STRIDE(frame, component);
    const int across = GST_VIDEO_FORMAT_INFO_W_SUB(frame->info.finfo, component);
    const int down = GST_VIDEO_FORMAT_INFO_H_SUB(frame->info.finfo, component);
    for (int y = 0; y < (kRows * height) >> down; ++y)
      for (int bit = 0; bit < kBits; ++bit) {
        bool one = counter >> (kBits - 1 - bit) & 1;
        if ((y << down) >= height) one = !one;
        const int from = (bit * width) >> across, to = ((bit + 1) * width) >> across;
        std::memset(data + y * stride + from,
                    component ? kNeutral
                    : one     ? kWhite
                              : kBlack,
                    std::size_t(to - from));
      }
  }
}

std::optional<uint16_t> read_counter(const GstVideoFrame* frame) {
  const auto* luma = static_cast<const guint8*>(GST_VIDEO_FRAME_COMP_DATA(frame, 0));
  const int stride = GST_VIDEO_FRAME_COMP_STRIDE(frame, 0);
  const int width = block_width(frame), height = block_height(frame);
  if (width < 2 || height < 2) return std::nullopt;
  unsigned rows[kRows] = {};
  for (int row = 0; row < kRows; ++row)
    for (int bit = 0; bit < kBits; ++bit) {
      // The middle of the block: its edges bleed.
      int sum = 0, samples = 0;
      for (int y = row * height + height / 4; y < row * height + (height * 3 + 3) / 4; ++y)
        for (int x = bit * width + width / 4; x < bit * width + (width * 3 + 3) / 4; ++x, ++samples)
          sum += luma[y * stride + x];
      const int mean = sum / samples;
      if (mean > 90 && mean < 160) return std::nullopt;  // neither black nor white
      rows[row] = rows[row] << 1 | (mean > 125 ? 1u : 0u);
    }
  if ((rows[0] ^ rows[1]) != 0xffff) return std::nullopt;
  return uint16_t(rows[0]);
}

std::optional<uint16_t> counter_of(GstBuffer* buffer, const GstCaps* caps) {
  GstVideoInfo info;
  GstVideoFrame frame;
  if (!map(&frame, &info, buffer, caps, GST_MAP_READ)) return std::nullopt;
  auto counter = read_counter(&frame);
  gst_video_frame_unmap(&frame);
  return counter;
}

std::optional<Colour> colour_of(GstBuffer* buffer, const GstCaps* caps) {
  GstVideoInfo info;
  GstVideoFrame frame;
  if (!map(&frame, &info, buffer, caps, GST_MAP_READ)) return std::nullopt;
  int means[3] = {};
  for (int component = 0; component < 3; ++component) {
    const auto* data = static_cast<const guint8*>(GST_VIDEO_FRAME_COMP_DATA(&frame, component));
    const int stride = GST_VIDEO_FRAME_COMP_STRIDE(&frame, component);
    const int width = GST_VIDEO_FRAME_COMP_WIDTH(&frame, component);
    const int height = GST_VIDEO_FRAME_COMP_HEIGHT(&frame, component);
    int64_t sum = 0, samples = 0;
    for (int y = height * 5 / 8; y < height * 7 / 8; ++y)
      for (int x = width / 8; x < width * 7 / 8; ++x, ++samples) sum += data[y * stride + x];
    means[component] = samples ? int(sum / samples) : 0;
  }
  gst_video_frame_unmap(&frame);
  return Colour{means[0], means[1], means[2]};
}

void burn_counter(GstPad* pad, uint16_t first) {
  gst_pad_add_probe(
      pad, GST_PAD_PROBE_TYPE_BUFFER,
      [](GstPad* pad, GstPadProbeInfo* info, gpointer data) {
        GstBuffer* buffer = gst_buffer_make_writable(GST_PAD_PROBE_INFO_BUFFER(info));
        GST_PAD_PROBE_INFO_DATA(info) = buffer;
        GstCaps* caps = gst_pad_get_current_caps(pad);
        GstVideoInfo video;
        GstVideoFrame frame;
        if (map(&frame, &video, buffer, caps, GST_MAP_READWRITE)) {
          write_counter(&frame, (*static_cast<uint16_t*>(data))++);
          gst_video_frame_unmap(&frame);
        }
        if (caps) gst_caps_unref(caps);
        return GST_PAD_PROBE_OK;
      },
      new uint16_t(first), [](gpointer data) { delete static_cast<uint16_t*>(data); });
}

}  // namespace cfr::test
