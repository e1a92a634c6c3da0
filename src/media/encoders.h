// Encoders for raw input: which, and how they are set for live use. Any thread; no state.
#pragma once

#include <gst/gst.h>

#include "media/codecs.h"

namespace cfr {

struct Encoder {
  const Codec* codec = nullptr;  // nullptr: none is installed
  const char* factory = nullptr;
};

// The preferred installed encoder of the kind.
Encoder choose_encoder(MediaKind kind);
// Low delay, no B-frames, a bitrate that follows the size of the picture. `raw`: the input's caps.
void tune_encoder(GstElement* encoder, const char* factory, const GstCaps* raw);
// The size of the picture has changed.
void adapt_encoder(GstElement* encoder, const char* factory, const GstCaps* raw);

}  // namespace cfr
