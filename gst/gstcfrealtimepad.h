// The ghost pad of both elements: a track. Properties under the pad's object lock.
#pragma once

#include <gst/gst.h>

G_BEGIN_DECLS

#define GST_TYPE_CF_REALTIME_PAD (gst_cf_realtime_pad_get_type())
G_DECLARE_FINAL_TYPE(GstCfRealtimePad, gst_cf_realtime_pad, GST, CF_REALTIME_PAD, GstGhostPad)

// A ghost pad without a target; `direction` from the template. Floating.
GstPad* gst_cf_realtime_pad_new(const char* name, GstPadTemplate* templ);

// Any thread; the setters notify. The string is the caller's to free.
char* gst_cf_realtime_pad_dup_track_name(GstCfRealtimePad* pad);
void gst_cf_realtime_pad_set_track(GstCfRealtimePad* pad, const char* session_id,
                                   const char* track_name);
void gst_cf_realtime_pad_set_mid(GstCfRealtimePad* pad, const char* mid);

G_END_DECLS
