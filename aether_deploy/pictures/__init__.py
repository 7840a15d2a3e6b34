"""Pictures, folders and videos through a network: read, cut into tiles, run, joined, written.

images, deep_images, metadata   files <-> pixels
tiling, edge_reach, upscaling   any size with bounded memory
batch_run, folder_record        folders
video, video_parts, video_colour
overlapped                      reading, inference and writing at once
"""
