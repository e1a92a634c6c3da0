// Decoders for what is received: which, and how they are set for live use. No state.
#pragma once

#include <gst/gst.h>

#include "media/codecs.h"

namespace cfr {

// The best-ranked decoder that comes up; hardware decoders have the higher ranks. Floating, in
// READY; nullptr if there is none. Not on a streaming thread.
GstElement* make_decoder(const Codec& codec);

}  // namespace cfr
