// A bin that shows its owner what its children say before it reaches the application.
#pragma once

#include <gst/gst.h>

#include <functional>

namespace cfr {

// `keep`: false = the message goes no further. On the thread that posts. Floating.
GstElement* make_chain_bin(const char* name, std::function<bool(GstMessage*)> keep);

}  // namespace cfr
