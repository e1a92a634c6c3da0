// gref for GStreamer's mini objects. Objects (elements, pads) need only util/gref.h.
#pragma once

#include <gst/gst.h>

#include "util/gref.h"

namespace cfr {

template <class T>
struct MiniObjectTraits {
  static void ref(T* object) { gst_mini_object_ref(GST_MINI_OBJECT_CAST(object)); }
  static void unref(T* object) { gst_mini_object_unref(GST_MINI_OBJECT_CAST(object)); }
};
template <>
struct RefTraits<GstCaps> : MiniObjectTraits<GstCaps> {};
template <>
struct RefTraits<GstBuffer> : MiniObjectTraits<GstBuffer> {};
template <>
struct RefTraits<GstEvent> : MiniObjectTraits<GstEvent> {};

}  // namespace cfr
